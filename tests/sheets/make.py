"""Writes a workbook with openpyxl: what is in it comes as JSON on standard input."""

import datetime
import json
import sys

import openpyxl
from openpyxl.utils.datetime import CALENDAR_MAC_1904

asked = json.load(sys.stdin)
workbook = openpyxl.Workbook()
if asked.get("macintosh"):
    workbook.epoch = CALENDAR_MAC_1904
sheet = workbook.active
for number, row in enumerate(asked["rows"], 1):
    for column, value in enumerate(row, 1):
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
