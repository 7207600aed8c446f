"""testssl.sh finds nothing above low in what a TLS port does by default."""
import json
import os
import shutil
import subprocess

import pytest
from tls_peers import pki, tls

TESTSSL = shutil.which("testssl") or shutil.which("testssl.sh")

pytestmark = pytest.mark.skipif(not TESTSSL or "SLUICE_LONG" not in os.environ,
                                reason="takes minutes: make check-long, with testssl.sh installed")


@pytest.mark.parametrize("threads", [4], ids=["t4"], indirect=True)
def test_nothing_above_low(tls, pki, tmp_path):
    cert = pki.ca.make("a.test", more=["crlDistributionPoints=URI:http://127.0.0.1:9/crl"])
    s = tls("LoadModule headers\nSecurityHeaders strict\nHSTS 180d\nLogLevel info\n", certs=[cert])
    found = tmp_path / "found.json"
    subprocess.run([TESTSSL, "--quiet", "--warnings", "off", "--color", "0", "--ip", "127.0.0.1", "--add-ca", pki.ca.pem,
                    "--jsonfile", found, f"a.test:{s.tls_port}"], stdin=subprocess.DEVNULL, capture_output=True,
                   text=True, timeout=500, cwd=tmp_path)
    rows = json.loads(found.read_text())
    assert len(rows) > 60  # it has looked
    bad = [r for r in rows if r["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL")]
    assert not bad, "\n".join(f"{r['id']}: {r['finding']}" for r in bad)
