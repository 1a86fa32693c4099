# SPDX-License-Identifier: Apache-2.0
"""The style sheet of reports: light and dark, for screens and for paper."""

STYLE = """
:root { --ink:#1c2530; --soft:#5c6875; --page:#f5f7f9; --card:#fff; --rule:#dfe5ea;
  --accent:#0b7a75; --warn:#b45309; --bad:#b42318; --idle:#94a3b8; color-scheme:light dark }
@media (prefers-color-scheme:dark) { :root { --ink:#e6ebf0; --soft:#9aa7b4; --page:#12171c;
  --card:#1b2229; --rule:#2c3640; --accent:#3fc1b8; --warn:#f0a24a; --bad:#f2766b;
  --idle:#5b6876 } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif }
main { max-width:1240px; margin:0 auto; padding:28px 20px 60px }
h1 { font-size:26px; margin:0 0 2px; letter-spacing:-.01em }
h2 { font-size:18px; margin:38px 0 10px }
p { margin:6px 0 } .soft, figcaption, th { color:var(--soft) } code { font-size:.92em }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(190px,1fr)); gap:12px;
  margin:20px 0 }
.tile, .card { background:var(--card); border:1px solid var(--rule); border-radius:10px;
  padding:14px 16px }
.tile b { display:block; font-size:24px; font-weight:650; letter-spacing:-.02em }
.tile span { color:var(--soft); font-size:13px }
.columns { display:grid; grid-template-columns:repeat(auto-fit,minmax(360px,1fr)); gap:14px }
.note { border-left:3px solid var(--warn); padding:2px 0 2px 12px; margin:10px 0 }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:500; font-size:13px }
td, th { padding:5px 10px 5px 0; border-bottom:1px solid var(--rule) }
td.n, th.n { text-align:right } tr:last-child td { border-bottom:0 }
.meter { background:var(--rule); border-radius:4px; height:8px; min-width:80px; position:relative }
.meter i { position:absolute; inset:0 auto 0 0; border-radius:4px; background:var(--accent) }
.meter i.p95 { opacity:.35 }
.shares { display:flex; height:28px; border-radius:7px; overflow:hidden; margin:4px 0 12px;
  font-size:12.5px; color:#fff; gap:1px }
.shares span { display:flex; align-items:center; padding-left:8px; white-space:nowrap;
  overflow:hidden; min-width:3px }
.good { background:#0b7a75 } .late { background:#b45309 } .lost { background:#b42318 }
.idle { background:#64748b }
.moments { display:grid; gap:6px; overflow-x:auto }
.moments img { width:100%; display:block; border-radius:5px; background:#000 }
.moments div { font-size:13px; color:var(--soft) }
figure { margin:0; position:relative }
figure time { position:absolute; left:6px; bottom:6px; background:#000a; color:#fff;
  font-size:12px; padding:0 6px; border-radius:4px }
.legend { display:flex; flex-wrap:wrap; gap:4px 16px; margin:10px 0; font-size:13px }
.legend i { display:inline-block; width:12px; height:12px; border-radius:3px; margin-right:6px;
  vertical-align:-1px }
.scale { display:flex; align-items:center; gap:8px; font-size:13px; max-width:420px }
.scale img { flex:1; min-width:0; height:12px; border-radius:3px }
.scale span { white-space:nowrap }
.chart { width:100%; height:auto } .chart text { fill:var(--soft); font-size:11px }
.chart .bar { fill:var(--accent) } .chart .grid { stroke:var(--rule) }
.chart .line { fill:none; stroke:var(--accent); stroke-width:1.8 }
@media print { body { background:#fff } .card, .tile { break-inside:avoid } }
"""
