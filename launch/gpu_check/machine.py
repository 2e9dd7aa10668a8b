"""What plans are timed with, measured here, and the time that it predicts against a run's: the stage machine."""
import json
import os
import re

import configs
from programs import NO_SPEED

PREDICTED = "first order: milliseconds of a step, predicted"
DIFFERENCE = "first order: the prediction differs by"


def machine(stage, programs):
    """`zerostep bench machine` of the GPU, whose file stays in logs/, then the time of the stage first_order's step as `zerostep plan` predicts it."""
    file = os.path.join(programs.logs, "machine.json")
    # With the threads of the runs that are timed; a third of the seconds is for what something else disturbs.
    seconds, threads = 0.5 if programs.is_fake else 30, programs.threads(8)
    done = programs.run("bench_machine", [programs.path("zerostep"), "bench", "machine", "--device", "cuda", "--seconds", str(seconds), "--scratch", programs.work,
                                          "--out", file], stage.left(), on_gpu=True, environment=threads)
    if done.status != 0:
        return stage.fail(f"bench machine {done.why()}")
    with open(file) as measured:
        figures = json.load(measured)
    for name, value in flat(figures):
        stage.figure(name, value)
    if figures.get("unsteady"):
        stage.note("something else ran meanwhile: the figures are not to be relied on, nor is what they predict")
    if stage.has_time("the prediction", 5):
        predict(stage, programs, threads)


def flat(figures, path=""):
    """Each number and text of a machine file with its keys as its name; entries of lists are named by what they are of."""
    for key, value in figures.items():
        name = f"{path}{key}"
        if isinstance(value, dict):
            yield from flat(value, name + ".")
        elif isinstance(value, list):
            for entry in value:
                of = [str(entry.pop(part)) for part in ("type", "rows", "width") if part in entry]
                yield from flat(entry, f"{name} {of[0]} {' x '.join(of[1:])}".rstrip() + ": ")
        elif not isinstance(value, bool):
            yield name, value


def predict(stage, programs, threads):
    run = configs.FIRST_ORDER
    if programs.is_fake:
        run = {"batch": 2, "length": configs.LENGTH, "steps": 2, "model": configs.SMALL_MODELS["gpt2"]}
    file, _ = programs.write_config("predicted", configs.first_order(programs.work, **run))
    planned = programs.run("plan", [programs.path("zerostep"), "plan", file, "--device", "cuda", "--json"], stage.left(), on_gpu=True, environment=threads)
    if planned.status != 0:
        return stage.fail(f"plan {planned.why()}")
    compare_prediction(stage, step_seconds(planned.text), programs.is_fake)


def step_seconds(text):
    """The predicted seconds in what `plan --json` says, warnings before it; None where it predicts none."""
    begin = re.search(r"^\{$", text, re.M)
    return json.JSONDecoder().raw_decode(text, begin.start())[0].get("step_seconds") if begin else None


def compare_prediction(stage, seconds, is_fake):
    if seconds is None:
        return stage.fail("the plan of the first-order run predicts no time from what was measured")
    stage.figure(PREDICTED, 1e3 * seconds)
    measured = stage.earlier.get("first_order", {}).get("milliseconds of a step")
    if is_fake:
        stage.skip("the prediction against the run", NO_SPEED)
    elif measured is None:
        stage.skip("the prediction against the run", "the stage first_order has timed no step")
    else:
        stage.figure(DIFFERENCE, abs(1e3 * seconds / measured - 1), most=0.25)
