"""The frame of the report's page, and how it looks."""

import string

PAGE = string.Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
"""
)

CSS = """
:root { --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --back: #f8fafc; --card: #fff;
  --red: #b91c1c; --amber: #b45309; --green: #15803d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e7eb; --soft: #9ca3af; --line: #374151; --back: #111827; --card: #1f2937;
    --red: #f87171; --amber: #fbbf24; --green: #4ade80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px; }
header, section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 20px;
  margin-bottom: 16px; }
header { border-left: 8px solid var(--green); }
header.fail { border-left-color: var(--red); }
header p { margin: 4px 0 0; font-size: 17px; }
h1 { font-size: 22px; margin: 0; } h2 { font-size: 18px; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 14px 0 6px; overflow-wrap: anywhere; }
.verdict { text-transform: uppercase; letter-spacing: .05em; color: var(--green); margin-right: 8px; }
.fail .verdict, .error-text { color: var(--red); }
.warning-text { color: var(--amber); } .ok { color: var(--green); } .note { color: var(--soft); margin: 4px 0 8px; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin-bottom: 16px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 18px; } .tile span { color: var(--soft); font-size: 13px; }
article { border: 1px solid var(--line); border-left: 6px solid var(--amber); border-radius: 6px; padding: 10px 14px;
  margin-bottom: 10px; }
article.error { border-left-color: var(--red); }
article p { margin: 2px 0 6px; overflow-wrap: anywhere; }
.badge { background: var(--amber); color: var(--card); border-radius: 4px; padding: 1px 7px; font-size: 12px;
  font-weight: 600; }
.error .badge { background: var(--red); }
.split { color: var(--soft); }
code { font: 13px ui-monospace, monospace; white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(230px, 100%), 1fr)); gap: 12px; }
figure { margin: 0; }
figure img { display: block; width: 100%; }
.lr { image-rendering: pixelated; margin-top: 2px; }
figcaption { font-size: 12px; color: var(--soft); overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; }
.bars td + td, .bars th + th { width: 26%; }
.bar { display: inline-block; height: 10px; border-radius: 2px; opacity: .7; margin-right: 6px; }
.number { font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 20px; }
.charts .note { min-height: 2.9em; }
.chart { width: 100%; } .chart text { font-size: 11px; fill: var(--soft); } .chart line { stroke: var(--soft); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 4px 0 10px; }
details summary { cursor: pointer; color: var(--soft); }
details ul { margin: 6px 0; padding-left: 20px; font-size: 13px; }
"""
