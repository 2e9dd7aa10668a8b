"""Runs the stages of launch/gpu_check.sh one after the other and writes what they find, after each of them."""
import argparse
import atexit
import datetime
import json
import os
import platform
import signal
import sys
import time

from programs import Programs
from stages import STAGES


class Stage:
    """What one stage finds: figures, failures, and parts that were not run."""

    def __init__(self, name, limit, earlier, log):
        self.name, self.limit, self.log = name, limit, log
        self.earlier = earlier  # figures of the stages before, by stage
        self.begin = time.monotonic()
        self.figures, self.failures, self.not_run, self.notes = {}, [], [], []

    def left(self):
        """Seconds until the stage's time is up."""
        return self.limit - (time.monotonic() - self.begin)

    def figure(self, name, value, least=None, most=None):
        """A figure; it fails the stage where it is not a number, below `least` or above `most`."""
        self.figures[name] = value
        if least is not None and not value >= least:
            self.failures.append(f"{name}: {shown(value)}, at least {shown(least)} is expected")
        if most is not None and not value <= most:
            self.failures.append(f"{name}: {shown(value)}, at most {shown(most)} is expected")

    def fail(self, reason):
        self.failures.append(reason)

    def skip(self, what, why):
        self.not_run.append(f"{what}: {why}")

    def note(self, text):
        self.notes.append(text)

    def has_time(self, what, seconds=1):
        """Whether `seconds` are left; else the part is one that was not run."""
        if self.left() >= seconds:
            return True
        self.skip(what, f"the {self.limit:g} s of the stage were up")
        return False

    def report(self):
        result = "fail" if self.failures else "pass" if self.figures else "not run"
        return {"result": result, "seconds": round(time.monotonic() - self.begin, 1), "limit_seconds": self.limit, "figures": self.figures,
                "failures": self.failures, "not_run": self.not_run, "notes": self.notes}


def shown(value):
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def text_of(report):
    lines = [f"gpu_check of {report['commit'][:12]}, {report['when']}, on {report['machine']}" +
             (" - on the GPU OF THE TESTS, whose speed means nothing" if report["fake"] else ""), ""]
    for name in STAGES:
        stage = report["stages"].get(name)
        if stage is None:
            lines.append(f"{name:14} not run")
            continue
        lines.append(f"{name:14} {stage['result']:8} {stage['seconds']:5.1f} of {stage['limit_seconds']:g} s")
        lines += [f"    FAILED   {failure}" for failure in stage["failures"]]
        width = max(map(len, stage["figures"]), default=0)
        lines += [f"    {figure:{width}}  {shown(value)}" for figure, value in stage["figures"].items()]
        lines += [f"    not run  {part}" for part in stage["not_run"]]
        lines += [f"    note     {note}" for note in stage["notes"]]
    return "\n".join(lines) + "\n"


def write(path, text):
    """The file is whole at any moment."""
    with open(path + ".part", "w") as file:
        file.write(text)
    os.replace(path + ".part", path)


def refuse(text):
    """An argument or a variable is wrong; nothing has been made."""
    print("launch/gpu_check.sh: " + text, file=sys.stderr)
    sys.exit(2)


def main():
    parser = argparse.ArgumentParser(prog="gpu_check.sh")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--torch", required=True)
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    chosen = os.environ.get("STAGES", "").split() or list(STAGES)
    unknown = [name for name in chosen if name not in STAGES]
    if unknown:
        refuse(f"STAGES: '{unknown[0]}' is none of {' '.join(STAGES)}")
    try:
        factor = float(os.environ.get("LIMIT_FACTOR", "1"))
    except ValueError:
        factor = 0
    if not 0 < factor < 1000:
        refuse(f"LIMIT_FACTOR: '{os.environ['LIMIT_FACTOR']}' is no factor of the limits: a number above 0")
    try:
        os.makedirs(given.out, exist_ok=True)
    except OSError as error:
        refuse(f"--out {given.out}: {error.strerror}")

    target = os.path.join(given.out, "gpu_check.json")
    report = {}
    if os.environ.get("STAGES") and os.path.exists(target):
        with open(target) as file:
            report = json.load(file)
    with open(os.path.join(given.bundle, "commit.txt")) as file:
        commit = file.read().strip()
    if report.get("fake") != given.fake or report.get("commit") != commit:
        report = {"stages": {}}
    report.update(commit=commit, fake=given.fake, machine=platform.node(), when=datetime.datetime.now().astimezone().isoformat(timespec="seconds"))
    programs = Programs(given.bundle, given.out, given.torch, given.fake, given.short)
    atexit.register(programs.close)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name, (run, seconds) in STAGES.items():
        if name not in chosen:
            continue
        earlier = {other: stage["figures"] for other, stage in report["stages"].items()}
        stage = Stage(name, seconds * factor, earlier, os.path.join(given.out, "logs"))
        print(f"[gpu_check] {name}: {stage.limit:g} s at most", flush=True)
        try:
            if name != "probe" and not programs.start():
                stage.skip("everything", "the program does not start (see the stage probe)")
            else:
                run(stage, programs)
        except Exception as error:  # a stage's mistake does not keep the others from running
            stage.fail(f"{type(error).__name__}: {error}")
        report["stages"][name] = stage.report()
        write(target, json.dumps(report, indent=1) + "\n")
        write(os.path.join(given.out, "gpu_check.txt"), text_of(report))
        print(f"[gpu_check] {name}: {report['stages'][name]['result']}" + "".join(f"\n    {failure}" for failure in stage.failures), flush=True)
    print(f"[gpu_check] {given.out}/gpu_check.txt", flush=True)
    sys.exit(1 if any(report["stages"][name]["result"] == "fail" for name in chosen) else 0)


if __name__ == "__main__":
    main()
