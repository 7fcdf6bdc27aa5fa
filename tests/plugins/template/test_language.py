"""The template language: what Go makes of a template, with the data a query gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.template.language import Method, Struct, Template, TemplateError, TemplateSyntaxError

RECORDED: list[dict[str, str]] = yaml.safe_load((Path(__file__).parent / "data" / "language.yaml").read_text())


class Known(Struct):
    """A struct of these fields."""

    def __init__(self, go_type: str, **fields: object) -> None:
        self.go_type = go_type
        self._fields = fields

    def field(self, name: str) -> object:
        return self._fields[name]


# What the recorded templates were given.
DATA = Known(
    "*main.D",
    Zone="example.",
    Name="ip-10-2.example.",
    Regex="re",
    Match=("ip-10-2", "10", "2"),
    Group={"a": "10", "b": "ff", "0": "ip-10-2"},
    Class="IN",
    Type="A",
    Question=Known("*main.Q", Name="ip-10-2.example.", Qtype=1, Qclass=1),
    Remote="192.0.2.1",
    Meta=Method(lambda label: "", 1),
)


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["template"])
def test_as_recorded_from_go(case: dict[str, str]):
    try:
        template = Template("answer", case["template"])
    except TemplateSyntaxError as error:
        assert {"template": case["template"], "error": str(error)} == case  # noqa: PT017
        return
    assert str(template) == case["printed"]
    try:
        assert template.render(DATA) == case.get("text")
    except TemplateError as error:
        assert str(error) == case.get("error")  # noqa: PT017


@pytest.mark.parametrize("keyword", ["template", "define", "block"])
def test_templates_within_templates_are_refused(keyword: str):
    with pytest.raises(TemplateSyntaxError, match=rf"^template: answer:1: \{{\{{{keyword}\}}\}} has no place"):
        Template("answer", f'{{{{ {keyword} "x" }}}}{{{{ end }}}}')


def test_a_method_can_be_called_and_piped_to():
    data = Known("T", Meta=Method(lambda label: f"<{label}>", 1))
    assert Template("answer", '{{ .Meta "a/b" }}{{ "c/d" | .Meta }}').render(data) == "<a/b><c/d>"


def test_rounds_have_an_end():
    template = Template("answer", "{{ range 100000 }}x{{ end }}")
    with pytest.raises(TemplateError, match=r"more than 10000 rounds$"):
        template.render(DATA)
    nested = Template("answer", "{{ range 200 }}{{ range 200 }}x{{ end }}{{ end }}")
    with pytest.raises(TemplateError, match=r"more than 10000 rounds$"):
        nested.render(DATA)
    assert len(Template("answer", "{{ range 5000 }}x{{ end }}").render(DATA)) == 5000


def test_a_width_has_an_end():
    assert len(Template("answer", '{{ printf "%9999999d" 1 }}').render(DATA)) == 1000


@pytest.mark.parametrize("text", ["{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{{ if 1 }}" * 500])
def test_what_lies_too_deep_is_refused_and_nothing_else(text: str):
    with pytest.raises(TemplateSyntaxError, match="more than 100 actions within each other"):
        Template("answer", text)


def test_a_template_is_rendered_anew_for_each_query():
    template = Template("answer", "{{ $x := .Name }}{{ $x }}")
    assert [template.render(Known("T", Name=name)) for name in ("a", "b")] == ["a", "b"]


pieces = st.sampled_from(
    ["{{", "}}", " ", "-", ".Name", ".Group.a", "$x", ":=", "=", "if ", "else ", "end ", "range ", "with ", "|",
     "(", ")", "index ", "eq ", "printf ", '"%s%d"', "1", "0x", "'a'", "`r`", ",", "/*", "*/", "nil", "true",
     "\n", "break", "é"]
)  # fmt: skip


@given(st.lists(pieces, max_size=25).map("".join) | st.text(max_size=40).map(lambda text: "{{" + text))
def test_any_text_is_a_template_or_refused_and_renders_or_fails_with_a_reason(text: str):
    try:
        template = Template("answer", text)
    except TemplateSyntaxError as error:
        assert str(error).startswith("template: answer:")  # noqa: PT017
        return
    try:
        template.render(DATA)
    except TemplateError as error:
        assert 'executing "answer" at <' in str(error)  # noqa: PT017
    assert isinstance(str(template), str)


def test_the_data_of_a_case_is_whole():
    fields: dict[str, Any] = {name: DATA.field(name) for name in ("Name", "Match", "Group")}
    assert fields["Match"][0] == fields["Group"]["0"]
