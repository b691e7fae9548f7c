"""Makes a workbook with openpyxl, or fills our template; what is to be in it comes as JSON on standard input.

A cell is a text, a number, a formula, nothing, or {"date": "2026-11-19T08:00:00"} or {"number": 0.5}, which may be
{"shown": "dd.mm.yyyy"}. Of the template the columns are found by the names that stand first in the rows.
"""

import datetime
import json
import sys

import openpyxl

asked = json.load(sys.stdin)
rows = asked["rows"]
if "template" in asked:
    workbook = openpyxl.load_workbook(asked["template"])
    sheet = workbook["tasks"]
    names = [cell.value for cell in sheet[1]]
    places = [names.index(name) + 1 for name in rows[0]]
    # The example.
    for cell in sheet[2]:
        cell.value = None
else:
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    places = range(1, 1 + max(map(len, rows)))
for number, row in enumerate(rows, 1):
    for column, value in zip(places, row):
        shown = None
        if isinstance(value, dict):
            shown, value = value.get("shown"), value["date"] if "date" in value else value["number"]
            if isinstance(value, str):
                value = datetime.datetime.fromisoformat(value)
        if value is not None:
            cell = sheet.cell(number, column, value)
            if shown:
                cell.number_format = shown
for merged in asked.get("merged", []):
    sheet.merge_cells(merged)
workbook.save(asked["to"])
