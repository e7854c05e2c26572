"""docs/interop.md is true: what the frameworks that are installed write and read is what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "interop"))
pytest.importorskip("plasma_store")
matrix = pytest.importorskip("matrix")


@pytest.fixture(scope="module")
def result() -> matrix.Exchange:
    """What comes of it here. Whatever the frameworks are, nothing may be read as what it is not."""
    return matrix.exchanged([framework for framework in matrix.frameworks() if framework.version()])


def test_the_tables_are_true(result: matrix.Exchange) -> None:
    text = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
    said, of_page = matrix.cells(text), matrix.versions(text)
    assert set(of_page) == {framework.name for framework in matrix.frameworks()}
    # Of other versions than those on the page, it does not say what they can.
    others = {name for name, version in of_page.items() if result.versions.get(name) != version}
    assert not {"C", "C++", "Python"} & others

    def compared(cells: dict[tuple[str, str, str], str]) -> dict[tuple[str, str, str], str]:
        large = [] if result.large else ["more than 2 GiB"]
        return {key: cell for key, cell in cells.items() if not {key[1], key[2]} & others and key[0] not in large}

    found = compared(matrix.cells(matrix.page(result)))
    assert found == compared(said)
    assert len(found) >= 2 * (len(matrix.DTYPES) + len(matrix.LAYOUTS))
    assert {"bundle", "tensor"} == {case["form"] for case in result.written}


def test_more_than_two_gib(result: matrix.Exchange) -> None:
    if not result.large:
        pytest.skip(f"{matrix.LARGE_FREE >> 30} GiB of memory are not free")
    assert {"C", "Python"} <= set(result.large)


def test_a_wrong_reading_is_noticed() -> None:
    case = matrix.case_of("C", "tensor", matrix.DTYPES["int8"], "row-major")
    right = {"dtype": case["dtype"], "shape": case["shape"], "elements": case["elements"], "same": True}
    assert matrix.judged("Python", case, right) == "="
    assert matrix.judged("Python", case, {**right, "same": False}) == "copy"
    for wrong in ({"elements": "00"}, {"shape": [4, 3]}, {"dtype": "uint8"}):
        with pytest.raises(AssertionError):
            matrix.judged("pyarrow", case, {**right, **wrong})
    # Of a bundle nobody sees a carrier.
    other = matrix.case_of("C", "bundle", matrix.DTYPES["bfloat16"], "row-major")
    carrier = {"dtype": "uint16", "shape": other["shape"], "elements": other["elements"], "same": True}
    assert matrix.judged("pyarrow", {**other, "form": "tensor"}, carrier) == "bits"
    with pytest.raises(AssertionError):
        matrix.judged("pyarrow", other, carrier)
