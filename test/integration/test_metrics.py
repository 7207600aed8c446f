"""sluice ctl metrics: counters and gauges, as Prometheus reads them and as JSON."""
import json
import os
import re
import time

import pytest
from conftest import free_port
from test_reload import Operator
from test_zones import counters
from tls_peers import pki  # noqa: F401 (a fixture)

LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
LINE = re.compile(rf"(sluice_[a-z0-9_]+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?\d+)")
DAYS = "sluice_tls_certificate_expiry_days"


@pytest.fixture
def server(sluice, pki, tmp_path):  # noqa: F811
    """One whose certificate has a name that has to be escaped."""
    os.symlink(pki.a.pem, tmp_path / 'a "chain".pem')
    return Operator(sluice, f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{free_port()} tls\nReturn 200 x\n"
                            f'TLSCertificate "{tmp_path}/a \\"chain\\".pem" {pki.a.key}\nTLSCertificate {pki.b}\n')


def metrics(o):
    """{name: (type, {labels: value})} of the text, each line of which must be one that Prometheus takes."""
    seen = {}
    for line in o.say("ctl", "metrics").stdout.splitlines():
        said = re.fullmatch(r"# (HELP|TYPE) (\S+) (.+)", line)
        if said and said[1] == "TYPE":
            seen[said[2]] = (said[3], {})
        elif said is None:
            m = LINE.fullmatch(line)
            assert m, line
            assert m[2] not in seen[m[1]][1], "the same twice: " + line
            seen[m[1]][1][m[2]] = int(m[3])
    return seen


def days(o):
    return list(metrics(o)[DAYS][1].values())


def test_text(server, pki, tmp_path):  # noqa: F811
    assert server.s.get().status == 200
    seen, counted = metrics(server), counters(server)
    assert {k[7:]: v[1][None] for k, v in seen.items() if v[0] == "counter"} == counted and counted["requests"] == 1
    assert {k for k, v in seen.items() if v[0] == "gauge"} == {DAYS}
    labels = list(seen[DAYS][1])
    assert labels[0].startswith(f'file="{tmp_path}/a \\"chain\\".pem",place="') and pki.b.pem in labels[1]
    assert all(n in (89, 90) for n in days(server))


def test_json(server, pki, tmp_path):  # noqa: F811
    got = json.loads(server.say("ctl", "metrics", "--json").stdout)
    assert got["counters"] == counters(server)
    assert [(g["name"], g["labels"]["file"]) for g in got["gauges"]] == [
        ("tls_certificate_expiry_days", f) for f in (f'{tmp_path}/a "chain".pem', pki.b.pem)]
    assert got["gauges"][1]["labels"]["place"].endswith(":10") and got["gauges"][1]["value"] in (89, 90)
    assert server.say("ctl", "metrics", "x").returncode == 2


def test_gauges_are_of_what_is_in_use(sluice, pki, tmp_path):  # noqa: F811
    """A certificate that is renewed, and one that a reload leaves out."""
    cert, soon = pki.ca.make("a.test"), pki.ca.make("a.test", days=40)
    o = Operator(sluice, f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{free_port()} tls\nReturn 200 x\n"
                         f"TLSCertificate {cert}\nTLSCertificate {pki.b}\n")
    assert [n > 80 for n in days(o)] == [True, True]
    cert.write(soon)
    end = time.time() + 10
    while days(o)[0] > 80 and time.time() < end:
        time.sleep(0.1)
    assert days(o)[0] in (39, 40)
    o.write(o.text.replace(f"TLSCertificate {pki.b}\n", ""))
    o.reload()
    assert days(o) in ([39], [40])


def test_without_modules_there_are_counters(sluice):
    o = Operator(sluice, "")
    assert [k for k, v in metrics(o).items() if v[0] == "gauge"] == []
    assert json.loads(o.say("ctl", "metrics", "--json").stdout)["gauges"] == []
