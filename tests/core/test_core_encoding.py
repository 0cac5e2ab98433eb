"""Python files hold only characters that Windows' code page 1252 has, as comfy-test's SYNTAX level asks."""

from support.imports import ROOT

ROOMS = ("benchmarks", "launcher", "nodes", "runtime", "simulation", "tests", "training", "visual_planner", "worlds")


def test_python_files_can_be_encoded_in_code_page_1252():
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")] + list(ROOT.glob("*.py"))
    assert len(files) > 500
    lines = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if line != line.encode("cp1252", "replace").decode("cp1252")
    ]
    assert lines == []
