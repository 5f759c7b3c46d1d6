"""`--format` takes the part of Go's templates that people use."""

import pytest

from sampan.cli.template import TemplateError, compile_template

DOCUMENT = {
    "Name": "web",
    "State": {"Running": True, "Pid": 7},
    "Ports": {"80/tcp": [{"HostPort": "8080"}], "443/tcp": None},
    "Args": ["a", "b"],
    "Empty": [],
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{.Name}} {{.State.Pid}}", "web 7"),
        ("{{json .Args}}", '["a","b"]'),
        ("{{.State.Running}}", "true"),
        ("{{.Args}}", "[a b]"),
        ("{{range .Args}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $v := .Args}}{{$i}}={{$v}} {{end}}", "0=a 1=b "),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range $p, $c := .Ports}}{{$p}} {{end}}", "443/tcp 80/tcp "),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Empty}}some{{else}}none{{end}}", "none"),
        ('{{join .Args ","}}', "a,b"),
        ("{{.Name | upper}}", "WEB"),
        ('{{if eq .Name "web"}}yes{{end}}', "yes"),
        ("{{len .Args}}", "2"),
        ("{{range .Empty}}x{{else}}nothing{{end}}", "nothing"),
        ("{{with .State}}{{.Pid}}{{end}}", "7"),
        ("a\\t{{.Name}}", "a\tweb"),
        ('{{printf "%s-%d" .Name .State.Pid}}', "web-7"),
    ],
)
def test_a_template_renders_as_go_renders_it(source: str, text: str) -> None:
    assert compile_template(source)(DOCUMENT) == text


@pytest.mark.parametrize("source", ["{{.Name", "{{range .Args}}", "{{.Nope}}", "{{nope .Name}}", "{{}}"])
def test_a_wrong_template_is_one_clear_error(source: str) -> None:
    with pytest.raises(TemplateError):
        compile_template(source)(DOCUMENT)
