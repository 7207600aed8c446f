"""What -t says of broken configurations, to the letter: test/broken/NAME.conf and NAME.txt.

    SLUICE_RENEW=1 pytest test_errors.py        writes every NAME.txt anew; read the difference"""
import os
import re
import subprocess

import pytest
from conftest import MODULES, PROGRAM, TOP

FOLDER = os.path.join(TOP, "test", "broken")
NAMES = sorted(n[:-5] for n in os.listdir(FOLDER) if n.endswith(".conf"))


def said(name):
    r = subprocess.run([PROGRAM, "-f", name + ".conf", "--module-dir", MODULES, "-t"], cwd=FOLDER,
                       capture_output=True, timeout=60)
    assert r.returncode == 1 and r.stdout == b"", (r.returncode, r.stdout)
    out = r.stderr.decode(errors="backslashreplace").replace(MODULES, "MODULES")
    return re.sub(r"(the modules in MODULES are: ).*", r"\1LIST", out)  # as the build has them


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said(name):
    path, out = os.path.join(FOLDER, name + ".txt"), said(name)
    if os.environ.get("SLUICE_RENEW"):
        with open(path, "w") as f:
            f.write(out)
    with open(path) as f:
        assert out == f.read(), "see SLUICE_RENEW above if this is as it should be"


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_place_a_finding_and_what_was_expected(name):
    """An error begins with file and line, and shows the line; the last line counts them."""
    blocks = re.split(r"^(?=\S)", said(name), flags=re.M)[1:]
    assert re.fullmatch(r"(\d+) errors?\n", blocks[-1]) and len(blocks) == int(blocks[-1].split()[0]) + 1
    for b in blocks[:-1]:
        if b == "no Listen line: nothing would be served\n    cure: write \"Listen 80\"\n":
            continue
        assert re.match(rf"{name}\.conf:\d+: .", b), b
        assert re.search(r"^ +\d+ \| .*\n +\| +\^~*$", b, re.M) or name == "nul-byte", b


STRING = r'"(?:[^"\\]|\\.)*"'
# What no file here can bring about: the first wants a file too large to keep, of the others the row's
# own words come before them, or a module's.
ELSEWHERE = {
    "expected a file of at most %lu bytes, found %s with %lld",
    "expected [ADDR:]PORT or unix:/PATH",
    "expected the address of a server, as ProxyPass or Server has it",
    "expected a token: letters, digits and -_.!#$%&'*+^`|~",
}


def kinds():
    """The phrases of the language's own errors: "expected ..." as they stand in the sources."""
    files = [os.path.join(TOP, "server", "config", n) for n in os.listdir(os.path.join(TOP, "server", "config"))]
    files += [os.path.join(TOP, "modules", "route", n) for n in os.listdir(os.path.join(TOP, "modules", "route"))]
    files += [os.path.join(TOP, "server", "upstream", "target.c")]
    found = set()
    for name in files:
        with open(name) as f:
            text = re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)
        for run in re.findall(rf"{STRING}(?:\s*{STRING})*", text):
            whole = "".join(s[1:-1] for s in re.findall(STRING, run))
            if re.match(r"expected \S", whole):
                found.add(whole.replace('\\"', '"'))
    return found


def as_pattern(phrase):
    parts = re.split(r"(%%|%(?:\.?\*|\.\d+)?(?:ll|l|z)?[sduc])", phrase)
    return "".join("%" if p == "%%" else ".+?" if p[:1] == "%" and len(p) > 1 else re.escape(p) for p in parts)


def test_every_kind_of_error_has_a_file():
    golden = "".join(open(os.path.join(FOLDER, n + ".txt")).read() for n in NAMES)
    lacking = {k for k in kinds() if not re.search(as_pattern(k), golden)}
    assert lacking == ELSEWHERE


STOCK = sorted(n[4:-3] for n in os.listdir(MODULES)
               if n.startswith("mod_") and os.path.isdir(os.path.join(TOP, "modules", n[4:-3])))


def look(folder, text, *args):
    (folder / "c.conf").write_text(text)
    return subprocess.run([PROGRAM, "-f", str(folder / "c.conf"), "--module-dir", MODULES, *args],
                          capture_output=True, text=True, timeout=60)


def listed(folder, module):
    """What -L has of a module: lines of the names of its directives and sections, and of those in them."""
    out = "\n" + look(folder, f"LoadModule {module}\n" if module != "core" else "", "-L").stdout
    title = "core" if module == "core" else f"mod_{module}"
    return re.split(r"\n(?=\w)", out.split(f"\n{title}\n")[1])[0]


@pytest.mark.parametrize("module", STOCK)
def test_the_module_of_a_name_is_told_where_it_is_not_loaded(tmp_path, module):
    """Of every directive and section it has."""
    names = re.findall(r"^  (<?\w+).*\n      ", listed(tmp_path, module), re.M)
    lines = [f"{n}>\n</{n[1:]}>" if n.startswith("<") else n for n in names]
    said = look(tmp_path, "".join(f"{l}\n" for l in lines), "-t").stderr
    assert names and said.count(f'cure: it belongs to mod_{module}: write "LoadModule {module}"') == len(names), said


ODD = ["", '""', "-", '- ""', "=", "a=", "x", "x y", 'x ""', "- -", "on off", "1 2 3", "%{x}", "9" * 30, "x " * 40]


@pytest.mark.parametrize("module", ["core", *STOCK])
def test_odd_words_are_errors_and_nothing_worse(tmp_path, module):
    """Each directive bare, and with words it hardly expects."""
    text, section = "", None
    for l in listed(tmp_path, module).splitlines():
        name = re.match(r"  (?:  )?(<?\w+)", l)
        if name is None or name.group(1) in ("LoadModule", "ModuleDir", "Include", "Define"):
            continue
        if l.startswith("  <"):
            section = name.group(1)[1:]
            text += "".join(f"<{section} {w}>\n</{section}>\n" for w in ODD)
        elif l.startswith("    ") and l[4] != " " and section:
            text += f"<{section} p>\n" + "".join(f"{name.group(1)} {w}\n" for w in ODD) + f"</{section}>\n"
        elif l.startswith("  ") and l[2] != " ":
            text += "".join(f"{name.group(1)} {w}\n" for w in ODD)
    loads = "".join(f"LoadModule {m}\n" for m in STOCK)
    r = look(tmp_path, loads + text, "-t")
    assert r.returncode == 1 and "Sanitizer" not in r.stderr, (r.returncode, r.stderr[-2000:])
    bare = [m.group(1) for m in re.finditer(r"^(\w+) $", text, re.M)]
    assert not bare or "found nothing" in r.stderr or "found 0" in r.stderr
