#!/usr/bin/env python3
"""Writes src/known.txt from the table of exported names: known.py exports.json > src/known.txt

Lines: `module NAME`, then for that module `f`, `p`, `v`, `e`, `m`, `s`, `t` with functions, parameters (globals
for `core`), variables, events, management commands, statistics and transformations; `old KIND NAME REPLACEMENT` for names of older versions.
"""
import json
import re
import sys


# First words of explanations that are not names.
NO_NAME = ("none", "command", "load")


def line(kind, names):
    names = sorted(set(names))
    if names:
        print(kind, *names)


def first_name(text):
    word = (text or "").split(" ")[0]
    return word if re.fullmatch(r"[$\w.()-]+", word) and word not in NO_NAME else "-"


def old(kind, entries):
    for entry in entries:
        for name in entry["name"].split(" / "):
            if "option" in name:
                continue
            new = entry.get("replaced_by")
            print("old", kind, name.split(" ")[0], first_name(new))


def trans(name):
    return re.sub(r"[\[,}].*", "", name.strip("{}").replace("[.index]", ""))


# Modules that the table leaves out, from their documentation.
MORE = {
    "aaa_radius": {
        "functions": [{"name": "radius_send_auth"}, {"name": "radius_send_acct"}],
        "params": [
            {"name": "sets"},
            {"name": "radius_config"},
            {"name": "syslog_name"},
            {"name": "fetch_all_values"},
        ],
    },
    "freeswitch": {
        "params": [
            {"name": "event_heartbeat_interval"},
            {"name": "esl_connect_timeout"},
            {"name": "esl_cmd_timeout"},
            {"name": "esl_cmd_polling_itv"},
        ]
    }
}

data = json.load(open(sys.argv[1]))
core = data["core"]
print("module core")
line("f", [f["name"] for f in core["functions"]])
line("p", [g["name"] for g in core["globals"]])
line("v", [v["name"][1:] for v in core["variables"]])
line("e", [e["name"] for e in core["events"]])
line("m", [c["name"] for c in core["mi"]])
line("s", [s["name"] for s in core["statistics"]])
line("t", [trans(t["name"]) for t in core["transformations"]])
old("f", core["functions_removed_before_4.0"])
old("p", core["globals_removed_before_4.0"])
old("v", core["variables_removed_before_4.0"])
for name, module in sorted({**MORE, **data["modules"]}.items()):
    print("module", name)
    line("f", [f["name"] for f in module.get("functions", [])])
    line("p", [p["name"] for p in module.get("params", [])])
    line("v", [v["name"].lstrip("$") for v in module.get("variables", [])])
    line("e", [e["name"] for e in module.get("events", [])])
    line("m", [c["name"] for c in module.get("mi", [])])
    line("s", [s["name"] for s in module.get("statistics", [])])
