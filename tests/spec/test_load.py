from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from specvalues import values, written
from tinyspecs import MINIMAL, read

from dnntrain import build, spec, yamltext
from dnntrain.errors import SpecError, UsageError
from dnntrain.registry import Entry, families, plain
from dnntrain.spec import Spec
from dnntrain.spec.checks import check

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
quick = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


# Reading.


def test_the_name_is_the_file_s_unless_it_says_another(tmp_path: Path) -> None:
    path = tmp_path / "my run (2).yaml"
    path.write_text(MINIMAL)
    assert spec.load(path).name == "my_run_2_"
    path.write_text(MINIMAL + "name: other\n")
    assert spec.load(path).name == "other"
    assert spec.loads(MINIMAL).name == "run"
    assert spec.loads(MINIMAL, default_name="é" * 300).name == "_"
    assert len(spec.loads(MINIMAL, default_name="e" * 300).name) == 100


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "no.yaml", "there is no file"),
        (tmp_path, "is a folder, not an experiment file"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            spec.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(UsageError, match="cannot read"):
        spec.load(tmp_path / ("x" * 300))


def test_bytes_and_encodings(tmp_path: Path) -> None:
    assert spec.loads(MINIMAL.encode("utf-16")) == spec.loads(MINIMAL) == spec.loads(b"\xef\xbb\xbf" + MINIMAL.encode())
    (tmp_path / "latin.yaml").write_bytes(MINIMAL.encode() + b"# \xe9\n")
    with pytest.raises(SpecError, match="this byte is not UTF-8"):
        spec.load(tmp_path / "latin.yaml")


def test_numbers_by_the_rules_of_yaml_1_2() -> None:
    assert plain(read(MINIMAL + "optimizer: {lr: 1e-3}\nseed: 0o17\n").optimizer)["lr"] == 0.001
    assert read(MINIMAL + "seed: 0o17\n").seed == 15


def test_merge_keys_and_aliases_are_read_as_written() -> None:
    text = """
        data: {dataset: digits}
        model:
          architecture: {name: mlp, hidden: &widths [8, 4]}
        optimizer: &o {name: sgd, lr: 0.5}
        callbacks: [&stop {name: early_stopping, patience: 3}, {<<: *stop, patience: 4}]
        """
    found = read(text)
    assert [plain(each)["patience"] for each in found.callbacks if not isinstance(each, str)] == [3, 4]


# Writing, and reading again.


def check_round_trip(found: Spec) -> None:
    text = spec.dump(found)
    again = spec.loads(text, source="spec.yaml", folder=Path("/elsewhere"))
    assert again == found
    assert plain(again) == plain(found)
    assert spec.dump(again) == text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_round_trips(path: Path) -> None:
    check_round_trip(spec.load(path))


def test_relative_paths_are_written_as_absolute_ones(tmp_path: Path) -> None:
    text = (
        "data: {dataset: {name: csv, path: a.csv, target: y, test: ~}}\nmodel: {architecture: {name: mlp, hidden: []}}"
    )
    found = spec.loads(text, folder=tmp_path)
    assert f"path: {tmp_path / 'a.csv'}" in spec.dump(found)
    check_round_trip(found)


@pytest.mark.parametrize("dataset", ["digits", "diabetes"])
@pytest.mark.parametrize("hidden", ["[8, 8]", "{layers: 6, units: 8}"])
def test_a_resolved_spec_round_trips_and_stays_resolved(dataset: str, hidden: str) -> None:
    found = spec.loads(f"data: {{dataset: {dataset}}}\nmodel: {{architecture: {{name: mlp, hidden: {hidden}}}}}")
    data = build.open_data(found)
    resolved = build.resolve(found, data)
    check_round_trip(resolved)
    again = spec.loads(spec.dump(resolved))
    assert build.resolve(again, data) == resolved
    # What `auto` may be left at affects where and how fast the experiment runs, not what it computes; and `unlabeled`
    # follows pretraining.
    assert set(re.findall(r"(\w+): auto", spec.dump(resolved))) <= {
        "device",
        "precision",
        "threads",
        "compile",
        "cache_frozen",
        "unlabeled",
    }


@quick
@given(values(Spec))
def test_any_spec_round_trips(content: dict[str, Any]) -> None:
    found = Spec.model_validate(content)
    assume(not check(found))
    check_round_trip(found)


PARTS = [pytest.param(entry, id=f"{name}-{entry.name}") for name, family in families().items() for entry in family]


@pytest.mark.parametrize("entry", PARTS)
def test_any_options_of_every_part_round_trip(entry: Entry) -> None:
    family = families()[entry.family]

    @settings(quick, max_examples=4)
    @given(written(entry))
    def check_options(value: Any) -> None:
        choice = family.choose(value)
        text = yamltext.dump(choice.plain())
        again = yamltext.read(text, source="", folder=Path("/elsewhere"))
        assert not again.problems
        assert family.choose(again.value) == choice
        assert accepts(SCHEMA["$defs"][f"family_{entry.family}"], choice.plain())

    check_options()


# The JSON Schema for editors.

SCHEMA = spec.json_schema()


def accepts(schema: Any, value: Any) -> bool:
    """Whether a JSON Schema, of the keywords that are used here, accepts a value."""
    known = {"anyOf", "$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "items"}
    known |= {"prefixItems", "minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    known |= {
        "minProperties",
        "minLength",
        "maxLength",
        "pattern",
        "title",
        "description",
        "default",
        "examples",
        "format",
        "$schema",
    }
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= known | {"$defs"}, set(schema) - known
    number = isinstance(value, int | float) and not isinstance(value, bool)
    types = {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": number,
        "boolean": isinstance(value, bool),
        "null": value is None,
    }
    tests = [
        "$ref" not in schema or accepts(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], value),
        "anyOf" not in schema or any(accepts(form, value) for form in schema["anyOf"]),
        "type" not in schema or types[schema["type"]],
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
    ]
    if number:
        tests += [
            value >= schema.get("minimum", value),
            value <= schema.get("maximum", value),
            "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"],
            "exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"],
        ]
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        tests += [key in value for key in schema.get("required", ())]
        tests += [len(value) >= schema.get("minProperties", 0)]
        tests += [accepts(properties.get(key, rest), item) for key, item in value.items()]
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        tests += [accepts(form, item) for form, item in zip(first, value, strict=False)]
        tests += [accepts(schema.get("items", True), item) for item in value[len(first) :]]
        tests += [schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))]
    if isinstance(value, str):
        tests += [schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))]
    return all(tests)


def every(schema: Any, key: str) -> list[Any]:
    """Return what stands under a key, wherever in a schema."""
    if isinstance(schema, list):
        return [found for item in schema for found in every(item, key)]
    if not isinstance(schema, dict):
        return []
    own = [schema[key]] if key in schema else []
    return own + [found for item in schema.values() for found in every(item, key)]


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    references = every(SCHEMA, "$ref")
    assert references
    assert {reference.removeprefix("#/$defs/") for reference in references} <= set(SCHEMA["$defs"])
    assert len(every(SCHEMA, "$defs")) == 1
    assert "x-family" not in str(SCHEMA)


def test_every_part_is_in_the_schema_with_its_options() -> None:
    for name, family in families().items():
        definition = SCHEMA["$defs"][f"family_{name}"]
        named = {form["properties"]["name"]["const"]: form for form in definition["anyOf"] if "properties" in form}
        assert set(named) == set(family.names())
        for entry in family:
            form = named[entry.name]
            assert set(form["properties"]) == {"name", *entry.options.model_fields}
            assert form["required"] == ["name", *entry.required]
            assert form["additionalProperties"] is False
            assert accepts(definition, entry.example)
            assert accepts(definition, plain(family.choose(entry.example)))
            assert accepts(definition, entry.name) is not bool(entry.required)
            assert not accepts(definition, {"name": entry.name, "qqqq": 1})
        assert accepts(definition, None) is ("none" in family)
    assert str(SCHEMA["properties"]).count("#/$defs/family_") >= 4


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_schema_accepts_every_config(path: Path) -> None:
    assert accepts(SCHEMA, yamltext.read(path.read_bytes(), source="", folder=Path()).value)
    assert accepts(SCHEMA, plain(spec.load(path)))


@quick
@given(values(Spec))
def test_the_schema_accepts_any_spec(content: dict[str, Any]) -> None:
    assert accepts(SCHEMA, content)
    assert accepts(SCHEMA, plain(Spec.model_validate(content)))


@pytest.mark.parametrize(
    "written",
    [
        "optimizer: {lr: 0.1}",
        "schedule: {patience: 3}",
        "training: {monitor: valid/loss, clip: {norm: 1}}",
        "metrics: accuracy",
        "callbacks: none",
        "callbacks: {name: early_stopping, patience: 3}",
        "extends: base.yaml",
    ],
)
def test_the_schema_accepts_what_may_be_said_in_short(written: str) -> None:
    assert accepts(SCHEMA, yamltext.read(MINIMAL + written, source="", folder=Path()).value)


@pytest.mark.parametrize(
    "written",
    [
        "sede: 1",
        "seed: x",
        "optimizer: {name: sgd, lr: 0}",
        "optimizer: {name: sgd, eps: 1}",
        "optimizer: sdg",
        "training: {epochs: '3'}",
        "training: {precision: fp8}",
        "callbacks: 3",
        "data: {dataset: npz}",
    ],
)
def test_the_schema_refuses_what_is_wrong(written: str) -> None:
    text = written if written.startswith("data") else MINIMAL + written
    assert not accepts(SCHEMA, yamltext.read(text, source="", folder=Path()).value)


def test_a_base_may_lie_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shared_base.yaml").write_text(
        "{data: {dataset: digits}, model: {architecture: {name: mlp, hidden: [4]}}}"
    )
    (tmp_path / "own.yaml").write_text("{extends: shared_base.yaml, seed: 5}")
    monkeypatch.setenv("DNNTRAIN_DATA", str(tmp_path / "data"))
    made = spec.load(tmp_path / "own.yaml")
    assert (made.seed, made.data.dataset.name) == (5, "digits")
