"""The HTML page: every figure with its interval, plots, pictures, and nothing that lies outside of it."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from support.small_world import config_for
from training.__main__ import main
from training.errors import TrainingError
from training.evaluation.charts import interval_chart, loss_curve, svg
from training.evaluation.report import read_metrics
from training.loop.runlog import RunLog, read_log
from training.sections.config import save_config


def row(value):
    interval = [value - 0.5, value + 0.5]
    rate = {"successes": 3, "n": 4, "rate": 0.75, "interval": [0.301, 0.954]}
    return {
        "psnr_db": {"value": value, "interval": interval},
        "ssim": {"value": 0.5, "interval": [0.4, 0.6]},
        "motion_ratio": {"value": 1.0, "interval": [0.9, 1.1]},
        "moved_most": rate,
        "checks_passed": rate,
    }


@pytest.fixture
def evaluation(tmp_path):
    config = config_for(tmp_path)
    folder = tmp_path / "evaluation"
    folder.mkdir()
    result = {"protocol": ["frames 2 on < all"], "scenes": 4, "source": "a", "lora": "b", "seed": 0, "steps": 2,
              "static": row(16.0), "both": row(21.25)}  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(result))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "both.png")
    log = RunLog(tmp_path / "lora", 0)
    (tmp_path / "lora").mkdir()
    for step in range(1, 8):
        log.write({"step": step, "loss": 1.0 / step})
    log.write({"step": 7, "validation_loss": 0.3})
    save_config(config, tmp_path / "config.yaml")
    return tmp_path


def test_one_page_holds_figures_intervals_plots_and_pictures(evaluation):
    assert main(["report", "--config", str(evaluation / "config.yaml")]) == 0
    page = (evaluation / "evaluation" / "report.html").read_text()
    for text in (
        "21.250<br><small>20.750 to 21.750",
        "3/4<br><small>30% to 95%",
        "frames 2 on &lt; all",
        "loss: train",
    ):
        assert text in page, text
    assert page.count("<svg") == 4  # three figures and one run
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("data:image/png;base64,") == 1


def test_without_an_evaluation_there_is_one_line(evaluation, capsys):
    (evaluation / "evaluation" / "metrics.json").unlink()
    assert main(["report", "--config", str(evaluation / "config.yaml")]) == 2
    assert "has no metrics.json: run evaluate first" in capsys.readouterr().err


def test_plots_show_their_values():
    (axis,) = interval_chart({"a": {"value": 1.0, "interval": [0.0, 2.0]}}, "t").axes
    assert axis.lines[0].get_xdata()[0] == 1.0 and axis.collections[0].get_segments()[0][:, 0].tolist() == [0.0, 2.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a"]
    log = [{"step": i, "loss": 1.0 - 0.1 * i} for i in range(8)] + [{"step": 7, "validation_loss": 0.4}]
    (axis,) = loss_curve(log, "t").axes
    raw, mean, unseen = (line.get_ydata() for line in axis.lines)
    assert raw[3] == pytest.approx(0.7) and mean[0] == pytest.approx(0.8) and len(mean) == 4 and unseen[0] == 0.4


def test_a_plot_is_one_element_of_a_page_whatever_its_names():
    """A name is printed as it is: no markup, no formula; the same figure is the same text."""
    name = 'a<b> $x$ & "c"'
    texts = [svg(interval_chart({name: {"value": 1.0, "interval": [0.0, 2.0]}}, name)) for _ in range(2)]
    assert texts[0] == texts[1]
    root = ElementTree.fromstring(texts[0])
    assert [element.text for element in root.iter() if element.text and "$x$" in element.text] == [name, name]


def test_a_log_goes_on_after_the_step_that_is_resumed(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in range(1, 6):
        log.write({"step": step, "loss": 0.5})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    RunLog(tmp_path, 3).write({"step": 4, "loss": 0.25})
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path)] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25)]


def test_tensorboard_events_hold_what_the_log_holds(tmp_path):
    log = RunLog(tmp_path, 0, tensorboard=True)
    log.write({"step": 3, "loss": 0.125})
    log.picture("plan", np.full((4, 6, 3), 200, np.uint8), 3)
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.125)]
    assert (events.Images("plan")[0].width, events.Images("plan")[0].height) == (6, 4)


MARKUP = '<img src=x onerror=alert(1)>"&'


def _pages(folder, change):
    file = folder / "evaluation" / "metrics.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
    return main(["report", "--config", str(folder / "config.yaml")])


@pytest.mark.parametrize("key", ["scenes", "steps", "seed", "lora", "source"])
@pytest.mark.parametrize("value", [MARKUP, [MARKUP], {MARKUP: 1}, None, 1e400, "x" * 10**5])
def test_nothing_in_a_record_is_markup(evaluation, key, value):
    assert _pages(evaluation, lambda record: record.update({key: value})) == 0
    page = (evaluation / "evaluation" / "report.html").read_text()
    assert "<img src=x" not in page


def test_colours_have_a_column_where_they_were_measured(evaluation):
    """Records of earlier versions, and of data without known objects, have none; a broken one is named."""
    config = str(evaluation / "config.yaml")
    file, page = evaluation / "evaluation" / "metrics.json", evaluation / "evaluation" / "report.html"
    assert main(["report", "--config", config]) == 0
    assert "keeps its colour" not in page.read_text()
    record = json.loads(file.read_text())
    record["both"]["colour_kept"] = {"successes": 5, "n": 12, "rate": 5 / 12, "interval": [0.19, 0.68]}
    file.write_text(json.dumps(record))
    assert main(["report", "--config", config]) == 0
    text = page.read_text()
    assert "<th>held object keeps its colour" in text and "<td>5/12<br><small>19% to 68%" in text
    assert len(re.findall(r"<td>5/12", text)) == 1, "the static plan has an empty cell"
    record["both"]["colour_kept"] = {"successes": "5", "n": 12}
    file.write_text(json.dumps(record))
    with pytest.raises(TrainingError, match=r"both\.colour_kept must have n, successes and an interval"):
        read_metrics(file)


def test_names_of_rows_and_lines_of_the_protocol_are_no_markup(evaluation):
    def change(record):
        record[MARKUP] = record["both"]
        record["protocol"] = [MARKUP, 3, None]

    assert _pages(evaluation, change) == 0
    assert "<img src=x" not in (evaluation / "evaluation" / "report.html").read_text()


def test_the_name_of_a_row_is_no_path(evaluation):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(evaluation / "private.png")
    names = ("../private", str(evaluation / "private"))
    assert _pages(evaluation, lambda record: record.update(dict.fromkeys(names, record["both"]))) == 0
    page = (evaluation / "evaluation" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1 and "private" in page


@pytest.mark.parametrize("key", ["scenes", "steps", "seed", "protocol"])
def test_a_record_that_lacks_something_is_one_line(evaluation, capsys, key):
    assert _pages(evaluation, lambda record: record.pop(key)) == 2
    assert f"metrics.json must have '{key}'" in capsys.readouterr().err


PARTS = [
    "psnr_db", "moved_most", ("psnr_db", "value"), ("psnr_db", "interval"), ("moved_most", "n"),
    ("moved_most", "successes"), ("checks_passed", "interval"), "protocol",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [MARKUP, ["a", "b"], [1], {"n": MARKUP}, True, -1, 1e400, "missing"])
def test_a_figure_is_a_number_or_one_line_says_so(evaluation, capsys, part, value):
    def change(record):
        if part == "protocol":
            record["protocol"] = value
            return
        *inner, key = [part] if isinstance(part, str) else part
        row = record["both"]
        for name in inner:
            row = row[name]
        row.pop(key) if value == "missing" else row.update({key: value})

    code = _pages(evaluation, change)
    printed = capsys.readouterr().err
    page = evaluation / "evaluation" / "report.html"
    assert (code == 2 and printed.startswith("error: ") and printed.count("\n") == 1) or code == 0
    assert not page.exists() or "<img src=x" not in page.read_text()


@pytest.mark.parametrize(
    "line", ['{"step": "x"}', "{]}", "[1]}", '{"loss": 1}', '{"step": 1, "loss": "<b>"}', "\x00}", '{"step": 1e400}']
)
def test_a_broken_line_of_a_log_is_named(evaluation, capsys, line):
    with (evaluation / "lora" / "log.jsonl").open("a") as file:
        file.write(line + "\n")
    assert main(["report", "--config", str(evaluation / "config.yaml")]) == 2
    printed = capsys.readouterr().err
    assert "log.jsonl line 9" in printed and printed.count("\n") == 1
