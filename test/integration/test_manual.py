"""The manual pages: each example is a whole configuration, and each entry is complete."""
import os
import re
import subprocess

import pytest
from at_home import at_home
from certs import CA
from conftest import BUILD, MODULES, PROGRAM

PAGES = sorted(n for n in os.listdir(BUILD) if re.fullmatch(r"(mod_\w+|sluice-core)\.8", n))


def page(name):
    with open(os.path.join(BUILD, name)) as f:
        return f.read()


def example(text):
    found = re.search(r"^\.SH EXAMPLE\n\.nf\n(.*?)^\.fi$", text, re.M | re.S).group(1)
    return found.replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")


@pytest.mark.parametrize("name", PAGES)
def test_the_example_is_a_configuration(tmp_path, name):
    """Word for word, but for the files it names, and with nothing to be found by --lint."""
    text = at_home(example(page(name)), tmp_path, tmp_path)
    if "/etc/ssl" in text:
        ca = CA(tmp_path, "own-ca")
        cert = ca.make("example.com")
        with open(cert.pem) as pem, open(cert.key) as key:
            (tmp_path / "site.pem").write_text(pem.read() + key.read())
        os.rename(cert.key, tmp_path / "site.key")
        text = text.replace("/etc/ssl", str(tmp_path))
    (tmp_path / "c.conf").write_text(text)
    for look in ("-t", "--lint"):
        r = subprocess.run([PROGRAM, "-f", str(tmp_path / "c.conf"), "--module-dir", MODULES, look],
                           capture_output=True, text=True, timeout=60)
        assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize("name", PAGES)
def test_each_entry_says_how_it_is_written_and_where(name):
    entries = re.findall(r"^\.TP\n\.B ([A-Z]\w+)\n(.*?)^\.IP$", page(name), re.M | re.S)
    assert entries
    for entry, head in entries:
        assert "Syntax: " in head and "Where: " in head, (entry, head)
        assert head.count('"') % 2 == 0, (entry, head)
