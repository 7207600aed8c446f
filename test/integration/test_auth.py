"""mod_auth: passwords, tokens, and a server that is asked."""
import base64
import hashlib
import json
import os
import re
import select
import socket
import subprocess
import threading
import time

import jwt
import pytest
from conftest import MODULES, PROGRAM
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from origin import reply

pytestmark = pytest.mark.skipif(not os.path.exists(f"{MODULES}/mod_auth.so"), reason="built without mod_auth")

BASE = "LoadModule route\nLoadModule auth\nLoadModule headers\nLogLevel info\n"


def openssl_passwd(how, password):
    return subprocess.run(["openssl", "passwd", how, "-salt", "saltsalt", password], capture_output=True,
                          text=True, check=True).stdout.strip()


def sha1(password):
    return "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()


BCRYPT = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe"  # of "password"
SLOW = "$2y$11$4H7vPZlYQpVOrWhzNUxuQeDQ5kCq8TKjtiZ93XzKH0uMqsWNcYtZm"  # nobody's, and 100 ms each


def basic(user, password=None):
    text = user if password is None else f"{user}:{password}"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.fixture
def htpasswd(tmp_path):
    path = tmp_path / "htpasswd"
    path.write_text(f"# users\n\nbob:{BCRYPT}\nada:{openssl_passwd('-apr1', 'analyst')}:a comment\n"
                    f"six:{openssl_passwd('-6', 'sixth')}\nfive:{openssl_passwd('-5', 'fifth')}\n"
                    f"one:{openssl_passwd('-1', 'first')}\nsha:{sha1('old')}\r\nempty:{sha1('')}\n")
    return path


def staff(sluice, origin, htpasswd, more="", **k):
    return sluice(BASE + f'AuthBasic "Staff \\"1\\"" {htpasswd}\nRequestHeader set X-User %{{user}}\n{more}'
                  f"ProxyPass {origin}\n", **k)


# ---- AuthBasic ----

@pytest.mark.parametrize("user, password", [("bob", "password"), ("ada", "analyst"), ("six", "sixth"),
                                            ("five", "fifth"), ("one", "first"), ("sha", "old"), ("empty", "")])
def test_right_password(sluice, origin, htpasswd, user, password):
    s = staff(sluice, origin, htpasswd)
    for _ in range(3):  # verified, then remembered
        r = s.get("/x", basic(user, password))
        assert r.status == 200 and r.seen("X-User") == user and r.seen("Authorization") is None


@pytest.mark.parametrize("fields, cause", [
    ({}, "AUTH0010"), ({"Authorization": "Bearer x"}, "AUTH0010"),
    (basic("bob", "Password"), "AUTH0011"), (basic("bob", ""), "AUTH0011"), (basic("bob"), "AUTH0011"),
    (basic("", "password"), "AUTH0011"), (basic("eve", "password"), "AUTH0011"),
    (basic("bob", "password\0"), "AUTH0011"), (basic("bob", "password\n"), "AUTH0011"),
    (basic("bob", "p" * 512), "AUTH0011"), (basic("b" * 20000, "x"), "AUTH0011"),
    ({"Authorization": "Basic"}, "AUTH0010"), ({"Authorization": "Basic !!!!"}, "AUTH0011"),
    ({"Authorization": "Basic Ym9iOnBhc3N3b3Jk="}, "AUTH0011"), ({"Authorization": "Basic Ym9iOnBhc3N3b3J"}, "AUTH0011"),
    ({"Authorization": "Basic Ym9i OnBhc3N3b3Jk"}, "AUTH0011"), ({"Authorization": "Basic ="}, "AUTH0011"),
])
def test_wrong_passwords(sluice, origin, htpasswd, fields, cause):
    s = staff(sluice, origin, htpasswd)
    r = s.get("/x", fields)
    assert (r.status, r.get("WWW-Authenticate")) == (401, 'Basic realm="Staff \\"1\\"", charset="UTF-8"')
    assert not origin.requests and s.logged(cause)
    assert s.get("/x", basic("bob", "password")).status == 200


def test_scheme_without_case_and_two_fields(sluice, origin, htpasswd):
    s = staff(sluice, origin, htpasswd)
    assert s.get("/x", {"authorization": "bAsIc  Ym9iOnBhc3N3b3Jk"}).status == 200
    r = s.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Basic Ym9iOnBhc3N3b3Jk\r\n"
              b"Authorization: Basic Ym9iOnBhc3N3b3Jk\r\n\r\n")
    assert r.startswith(b"HTTP/1.1 401 ")


def test_curl(sluice, origin, htpasswd):
    s = staff(sluice, origin, htpasswd)

    def curl(*a):
        return subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *a,
                               f"http://127.0.0.1:{s.port}/"], capture_output=True, text=True, timeout=20).stdout
    assert (curl("-u", "ada:analyst"), curl("-u", "ada:x"), curl()) == ("200", "401", "401")
    assert curl("--anyauth", "-u", "bob:password", "-d", "x" * 100000) == "200"


def test_body_waits_for_the_verification(sluice, origin, htpasswd):
    s = staff(sluice, origin, htpasswd)
    r = s.get("/x", basic("six", "sixth"), "POST", b"y" * 300000)
    assert r.status == 200 and len(r.json()["body"]) == 300000


def test_off_and_pass(sluice, origin, htpasswd):
    s = staff(sluice, origin, htpasswd, f"<Location /open>\nAuthBasic off\nProxyPass {origin}\n</Location>\n"
              f'<Location /kept>\nAuthBasic "x" {htpasswd} pass\nProxyPass {origin}\n</Location>\n')
    assert s.get("/open").status == 200
    fields = basic("bob", "password")
    assert s.get("/kept", fields).seen("Authorization") == fields["Authorization"]
    assert s.get("/open", {"Authorization": "Basic x"}).seen("Authorization") == "Basic x"


def test_user_in_the_log(sluice, origin, htpasswd, tmp_path):
    s = staff(sluice, origin, htpasswd, f"LoadModule log\nAccessLog {tmp_path}/log common\n"
              f'LogFormat own "who=%{{user}}"\nAccessLog {tmp_path}/own own\n')
    s.get("/x", basic("bob", "password"))
    s.get("/x", basic("eve", "password"))
    s.stop()
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(x.split()[2] for x in lines) == ["-", "bob"]
    assert sorted((tmp_path / "own").read_text().split()) == ["who=-", "who=bob"]


def test_require(sluice, origin, htpasswd):
    s = staff(sluice, origin, htpasswd, "AuthRequire \"%{user} in {ada, six}\"\nAuthRequire \"%{method} != DELETE || %{user} == ada\"\n")
    assert s.get("/", basic("ada", "analyst")).status == 200
    r = s.get("/", basic("bob", "password"))
    assert r.status == 403 and r.get("WWW-Authenticate") is None and s.logged("AUTH0012")
    assert s.get("/", basic("bob", "x")).status == 401
    assert s.get("/", basic("six", "sixth"), "DELETE").status == 403


@pytest.mark.parametrize("text, says", [
    ('AuthBasic "x"\n', "expected a realm and a file of passwords, or off"),
    ('AuthBasic "x" /nowhere\n', "expected a file that can be read, found /nowhere"),
    ('AuthBasic "x" bad.htpasswd\n', "bad.htpasswd:2: expected a hash"),
    ('AuthBasic "x" twice.htpasswd\n', "twice.htpasswd:2: this user stands on a line before"),
    ('AuthBasic "x" line.htpasswd\n', "line.htpasswd:1: expected USER:HASH"),
    ('AuthBasic "x" good.htpasswd cach=1s\n', '"cache"'),
    ("AuthRequire \"%{user} == bob\"\nReturn 200 x\n", "expected AuthBasic, AuthJWT or AuthForward beside it"),
    ("AuthJWT\n", "AuthJWT: expected off|FILE"),
    ("AuthJWT good.htpasswd\n", "good.htpasswd:1: "),
    ("AuthJWT none.json\n", "expected a key for RS256, ES256, EdDSA or HS256"),
    ("AuthJWT short.json\n", "key 1: expected a secret k of 32 bytes or more"),
    ("AuthForward balancer://x\n", "balancer"),
    ("AuthForward http://127.0.0.1:1/ copy=Content-Length\n", "expected names of fields"),
    ("Satisfy some\n", "any"),
])
def test_refused(refused, tmp_path, text, says):
    for name, content in {"bad": f"a:{BCRYPT}\nb:secret\n", "twice": f"a:{BCRYPT}\na:{BCRYPT}\n", "line": "abc\n",
                          "good": f"a:{BCRYPT}\n"}.items():
        (tmp_path / f"{name}.htpasswd").write_text(content)
        text = text.replace(f"{name}.htpasswd", f"{tmp_path}/{name}.htpasswd")
    (tmp_path / "none.json").write_text('{"keys": [{"kty": "EC", "crv": "P-384", "x": "", "y": ""}]}')
    (tmp_path / "short.json").write_text('{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}')
    text = text.replace("none.json", f"{tmp_path}/none.json").replace("short.json", f"{tmp_path}/short.json")
    out = refused("LoadModule route\nLoadModule auth\n" + text)
    assert says in out and "test.conf:3: " in out


def test_file_is_read_again(sluice, origin, htpasswd):
    s = staff(sluice, origin, htpasswd)
    assert s.get("/", basic("bob", "password")).status == 200
    htpasswd.write_text(f"bob:{sha1('other')}\n")
    assert s.logged("AUTH0002")
    assert s.get("/", basic("bob", "password")).status == 401, "what was remembered goes with the file"
    assert s.get("/", basic("bob", "other")).status == 200
    s.expect("AUTH0001")
    htpasswd.write_text("bob:secret\n")
    assert s.logged("AUTH0001 .*htpasswd:1: expected a hash.*what was read before is kept")
    assert s.get("/", basic("bob", "other")).status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_file_only_root_can_read(sluice, origin, htpasswd):
    os.chmod(htpasswd, 0o600)
    s = staff(sluice, origin, htpasswd, user="nobody")
    with open(f"/proc/{s.pids()[1]}/status") as f:
        assert not re.search(r"^Uid:\t0", f.read(), re.M)
    assert s.get("/", basic("bob", "password")).status == 200
    new = htpasswd.with_suffix(".new")
    new.write_text(f"bob:{sha1('other')}\n")
    os.chmod(new, 0o600)
    os.rename(new, htpasswd)
    assert s.logged("AUTH0002")
    assert s.get("/", basic("bob", "other")).status == 200


def test_the_same_question_is_answered_once(sluice, origin, tmp_path):
    """Twenty at a time take as long as one; twenty different ones do not."""
    (tmp_path / "slow").write_text(f"bob:{SLOW}\n")
    s = staff(sluice, origin, tmp_path / "slow")

    def took(fields):
        begin, threads = time.time(), [threading.Thread(target=s.get, args=("/", f)) for f in fields]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return time.time() - begin
    one = took([basic("bob", "x")])
    same = took([basic("bob", "y")] * 20)
    different = took([basic("bob", f"z{i}") for i in range(20)])
    assert same < different / 2 and different > 4 * one


def test_unknown_users_cost_as_much(sluice, origin, tmp_path):
    (tmp_path / "slow").write_text(f"bob:{SLOW}\n")
    s = staff(sluice, origin, tmp_path / "slow")

    def took(user):
        begin = time.time()
        for i in range(3):
            assert s.get("/", basic(user, f"w{i}")).status == 401
        return time.time() - begin
    known, unknown = took("bob"), took("eve")
    assert 0.4 < known / unknown < 2.5


def test_clients_that_leave_while_they_wait(sluice, origin, tmp_path):
    (tmp_path / "slow").write_text(f"bob:{SLOW}\n")
    s = staff(sluice, origin, tmp_path / "slow")
    for i in range(10):
        c = s.client()
        line = basic("bob", f"q{i % 3}")["Authorization"]
        c.send(f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {line}\r\n\r\n")
        c.close()
    assert s.get("/", basic("bob", "q1")).status == 401


def test_too_many_wait(sluice, origin, tmp_path):
    (tmp_path / "slow").write_text("bob:" + SLOW.replace("$11$", "$13$") + "\n")
    s = staff(sluice, origin, tmp_path / "slow", "StopTimeout 1s\n").expect("AUTH0013")
    clients = {}
    for i in range(300):
        c = s.client()
        clients[c.sock] = c.send(f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {basic('bob', f'r{i}')['Authorization']}\r\n\r\n")
    answered, end = [], time.time() + 20
    while not any(r.status == 503 for r in answered) and time.time() < end:
        answered += [clients.pop(sock).response() for sock in select.select(list(clients), [], [], 1)[0]]
    r = [r for r in answered if r.status == 503][0]
    assert (r.get("Retry-After"), r.get("WWW-Authenticate")) == ("1", None)
    for c in clients.values():
        c.close()


def test_cache_under_threads(sluice, origin, htpasswd):
    """Right and wrong ones from many clients, while the file changes."""
    s = staff(sluice, origin, htpasswd)
    text, bad = htpasswd.read_text(), []

    def ask():
        c = s.client()
        for i in range(60):
            user, password, status = [("sha", "old", 200), ("ada", "analyst", 200), ("sha", f"x{i}", 401)][i % 3]
            if c.request("GET", "/", basic(user, password)).status != status:
                bad.append((user, password))
        c.close()
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for i in range(5):
        htpasswd.write_text(text + f"u{i}:{sha1('x')}\n")
        time.sleep(0.1)
    for t in threads:
        t.join()
    assert not bad


# ---- AuthJWT ----

class Keys:
    def __init__(self, folder):
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.secret = os.urandom(40)
        self.path = folder / "jwks.json"
        self.sign = {"RS256": (self.rsa, "r"), "ES256": (self.ec, "e"), "EdDSA": (self.ed, "d"),
                     "HS256": (self.secret, "s")}
        self.write(self.all())

    def write(self, keys):
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"keys": keys}))
        os.rename(new, self.path)

    def all(self):
        def public(key, name, **more):
            return {**json.loads(jwt.get_algorithm_by_name(name).to_jwk(key)), **more}
        raw = self.ed.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        numbers = self.ec.public_key().public_numbers()

        def b64(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
        return [public(self.rsa.public_key(), "RS256", kid="r", use="sig", alg="RS256"),
                {"kty": "EC", "crv": "P-256", "kid": "e", "x": b64(numbers.x.to_bytes(32, "big")),
                 "y": b64(numbers.y.to_bytes(32, "big"))},
                {"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": b64(raw)},
                {"kty": "oct", "kid": "s", "k": b64(self.secret)},
                {"kty": "EC", "crv": "P-521", "kid": "other"}]

    def token(self, alg="ES256", kid=True, head=None, **claims):
        key, name = self.sign[alg]
        claims = {"sub": "ann", "exp": int(time.time()) + 60, **claims}
        claims = {k: v for k, v in claims.items() if v is not None}
        head = {**({"kid": name} if kid is True else {"kid": kid} if kid else {}), "typ": "JWT", **(head or {})}
        return jwt.api_jws.encode(json.dumps(claims).encode(), key, alg, head)  # which looks at no claims


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("jwks"))


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def api(sluice, origin, keys, options="", more=""):
    return sluice(BASE + f"AuthJWT {keys.path} {options}\n{more}"
                  'RequestHeader set X-User "%{user} %{jwt:scope} %{jwt:realm.roles} %{jwt:n}"\n' f"ProxyPass {origin}\n")


def b64json(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA", "HS256"])
@pytest.mark.parametrize("kid", [True, None])
def test_tokens(sluice, origin, keys, alg, kid):
    s = api(sluice, origin, keys)
    token = keys.token(alg, kid, scope="read write", realm={"roles": ["a", "b"]}, n=7)
    for _ in range(3):
        r = s.get("/", bearer(token))
        assert r.status == 200 and r.seen("X-User") == "ann read write a b 7" and r.seen("Authorization") is None
    head, claims, signature = token.split(".")
    wrong = ("A" if signature[5] != "A" else "B").join([signature[:5], signature[6:]])
    for bad in (f"{head}.{claims}.{wrong}", f"{head}.{b64json({'sub': 'eve', 'exp': 9e9})}.{signature}",
                f"{head}.{claims}.", f"{head}.{claims}"):
        r = s.get("/", bearer(bad))
        assert r.status == 401 and 'error="invalid_token"' in r.get("WWW-Authenticate")


def test_algorithms_are_not_confused(sluice, origin, keys):
    s = api(sluice, origin, keys)
    pem = keys.rsa.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = b64json({"sub": "eve", "exp": time.time() + 60})
    import hmac
    for alg in ("HS256", "RS256"):
        for kid in ("r", None):
            head = b64json({"alg": alg, **({"kid": kid} if kid else {})})
            mac = hmac.new(pem, f"{head}.{claims}".encode(), "sha256").digest()
            forged = f"{head}.{claims}." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
            assert s.get("/", bearer(forged)).status == 401
    for alg in ("none", "None", "NONE", "", "HS512", "ES384", None, 7):
        assert s.get("/", bearer(f"{b64json({'alg': alg})}.{claims}.")).status == 401
    assert s.get("/", bearer(keys.token("HS256", "r"))).status == 401
    assert s.get("/", bearer(keys.token(head={"crit": ["b64"], "b64": False}))).status == 401
    assert not origin.requests


@pytest.mark.parametrize("claims, status, says", [
    ({}, 200, None), ({"exp": None}, 401, "when it expires"), ({"exp": -20}, 200, None),
    ({"exp": -40}, 401, "it has expired"), ({"nbf": 20}, 200, None), ({"nbf": 40}, 401, "not valid yet"),
    ({"iss": "you"}, 401, "another issuer"), ({"iss": None}, 401, "another issuer"),
    ({"aud": ["x", "api"]}, 200, None), ({"aud": ["x"]}, 401, "another audience"), ({"aud": None}, 401, "another audience"),
    ({"exp": "soon"}, 401, "no number"), ({"sub": None}, 200, None),
])
def test_claims(sluice, origin, keys, claims, status, says):
    s = api(sluice, origin, keys, "iss=me aud=api realm=here")
    now = int(time.time())
    given = {"iss": "me", "aud": "api", **claims}
    given = {k: now + v if k in ("exp", "nbf") and isinstance(v, int) else v for k, v in given.items()}
    r = s.get("/", bearer(keys.token(**given)))
    assert r.status == status
    if says is not None:
        challenge = r.get("WWW-Authenticate")
        assert challenge.startswith('Bearer realm="here", error="invalid_token", error_description="') and says in challenge


def test_no_token_and_two(sluice, origin, keys):
    s = api(sluice, origin, keys)
    for fields in ({}, basic("a", "b"), {"Cookie": "t=x"}):
        assert s.get("/", fields).get("WWW-Authenticate") == "Bearer"
    assert s.get("/", bearer("x" * 25000)).status == 401
    token = keys.token()
    r = s.raw(f"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
              f"Authorization: Bearer {token}\r\n\r\n".encode())
    assert r.startswith(b"HTTP/1.1 400 ") and b'error="invalid_request"' in r


def test_cookie(sluice, origin, keys):
    s = api(sluice, origin, keys, "cookie=t user=n exp=optional")
    r = s.get("/", {"Cookie": f"a=b; t={keys.token(n='nina', exp=None)}; c=d"})
    assert r.status == 200 and r.seen("X-User").startswith("nina ") and r.seen("Cookie") == "a=b; c=d"
    assert s.get("/", {"Cookie": f"t={keys.token()}"}).seen("Cookie") is None
    assert s.get("/", {"Cookie": "t=x"}).status == 401
    s = api(sluice, origin, keys, "cookie=t pass")
    assert "t=" in s.get("/", {"Cookie": f"t={keys.token()}"}).seen("Cookie")
    assert s.get("/", bearer(keys.token())).seen("Authorization").startswith("Bearer ")


@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=0-"}], ids=["by itself", "by a subrequest"])
def test_claims_are_known_to_what_judges_responses(sluice, origin, keys, tmp_path, fields):
    origin.on("/", reply(200, b"x", [("Cache-Control", "public, max-age=60")]))
    s = sluice(BASE + f"LoadModule cache_disk\nCacheDisk {tmp_path}/cache size=64m\nCache on\nAuthJWT {keys.path}\n"
               f"CacheNoStore \"%{{jwt:own.role}} == 'admin'\"\nProxyPass {origin}\n")
    for role, stored in (("admin", False), ("guest", True)):
        who = {**dict(bearer(keys.token(own={"role": role}))), **fields}
        assert [("hit" in s.get(f"/?{role}", who).get("Cache-Status")) for _ in range(2)] == [False, stored]


def test_scope(sluice, origin, keys):
    s = api(sluice, origin, keys, more="AuthRequire \"%{jwt:scope} =~ '(^| )write( |$)'\"\n")
    assert s.get("/", bearer(keys.token(scope="read write"))).status == 200
    r = s.get("/", bearer(keys.token(scope="read")))
    assert r.status == 403 and 'error="insufficient_scope"' in r.get("WWW-Authenticate")


def test_keys_are_read_again(sluice, origin, tmp_path):
    keys = Keys(tmp_path)
    s = api(sluice, origin, keys)
    token = keys.token("HS256")
    assert s.get("/", bearer(token)).status == 200
    keys.write(keys.all()[:3])
    assert s.logged("AUTH0002")
    assert s.get("/", bearer(token)).status == 401
    assert s.get("/", bearer(keys.token("RS256"))).status == 200


# ---- AuthForward ----

def asked(sluice, origin, judge, options="", more=""):
    return sluice(BASE + f"AuthForward http://{judge}/verify?app=1 {options}\n{more}"
                  f"RequestHeader set X-User %{{user}}\nProxyPass {origin}\n")


def test_forward_lets_through(sluice, origin, make_origin):
    judge = make_origin()
    judge.on("/verify", reply(202, b"welcome", [("Remote-User", "ann"), ("Remote-Groups", "a"), ("Remote-Groups", "b"),
                                                ("X-Secret", "no")]))
    s = asked(sluice, origin, judge, "copy=Remote-User,Remote-Groups user=Remote-User")
    r = s.get("/a/b?c=d", {"Cookie": "s=1", "Remote-User": "root", "X-Forwarded-Method": "PUT", "If-None-Match": "x",
                           "Range": "bytes=0-1"}, "POST", b"z" * 100000)
    assert r.status == 200 and len(r.json()["body"]) == 100000 and r.seen("X-User") == "ann"
    assert r.seen("Remote-User") == "ann" and r.seen("Remote-Groups") == "a, b" and r.seen("X-Secret") is None
    q = judge.last
    assert (q.method, q.target, q.body) == ("GET", "/verify?app=1", b"")
    assert (q.get("X-Forwarded-Method"), q.get("X-Forwarded-Uri"), q.get("X-Forwarded-Host"), q.get("Cookie")) == \
        ("POST", "/a/b?c=d", "test", "s=1")
    assert q.get("Remote-User") is q.get("If-None-Match") is q.get("Range") is q.get("Content-Length") is None
    assert q.get("Host") == str(judge)


def test_forward_drops_what_clients_pretend(sluice, origin, make_origin):
    judge = make_origin()
    judge.on("/verify", reply(200, b""))
    s = asked(sluice, origin, judge, "copy=Remote-User user=Remote-User")
    r = s.get("/", {"Remote-User": "root"})
    assert r.status == 200 and r.seen("Remote-User") is None and (r.seen("X-User") or "") == ""


@pytest.mark.parametrize("status, fields", [
    (401, [("WWW-Authenticate", "Bearer"), ("X-Secret", "no")]), (403, []),
    (302, [("Location", "https://login.example.com/?x"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
])
def test_forward_refuses(sluice, origin, make_origin, status, fields):
    judge = make_origin()
    judge.on("/verify", reply(status, b"<p>no</p>", fields + [("Content-Type", "text/html")]))
    s = asked(sluice, origin, judge)
    c = s.client()
    for _ in range(2):
        r = c.request("GET", "/")
        assert (r.status, r.body, r.get("Content-Type")) == (status, b"<p>no</p>", "text/html")
        assert r.get("X-Secret") is None
        for name in ("WWW-Authenticate", "Location", "Set-Cookie"):
            assert (r.get(name) or "") == ", ".join(v for k, v in fields if k == name)
    assert not origin.requests and s.logged("AUTH0016")


@pytest.mark.parametrize("script, status, numbers", [
    (reply(500, b""), 502, ["AUTH0018"]), (reply(404, b""), 502, ["AUTH0018"]), (reply(304), 502, ["AUTH0018"]),
    (lambda c, r: c.sock.close() or False, 503, ["AUTH0017", "SL0505", "SL0501"]),
    (lambda c, r: time.sleep(1.5) or False, 503, ["AUTH0017", "SL0506", "SL0511", "SL0505"]),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", 503, ["AUTH0017", "SL0509", "SL0510", "SL0511"]),
])
def test_forward_fails(sluice, origin, make_origin, script, status, numbers):
    judge = make_origin()
    judge.on("/verify", script)
    s = asked(sluice, origin, judge, "timeout=500ms").expect(*numbers)
    assert s.get("/").status == status
    assert not origin.requests and s.logged(numbers[0])


def test_forward_chosen_fields_and_long_body(sluice, origin, make_origin):
    judge = make_origin()
    judge.on("/verify", reply(401, b"x" * 200000, [("X-Why", "because"), ("Location", "/"), ("Content-Encoding", "x")]))
    s = asked(sluice, origin, judge, "send=Cookie,Accept answer=X-Why")
    r = s.get("/", {"Cookie": "a", "Authorization": "b", "Accept": "c"})
    assert (r.status, r.get("X-Why"), r.get("Location"), r.body) == (401, "because", None, b"")
    assert r.get("Content-Encoding") is None
    assert (judge.last.get("Cookie"), judge.last.get("Accept"), judge.last.get("Authorization")) == ("a", "c", None)
    assert judge.last.get("Host") == str(judge) and judge.last.get("X-Forwarded-Uri") == "/"
    judge.on("/verify", reply(403, b"coded", [("Content-Encoding", "gzip")]))
    r = s.get("/", {"Accept": "c"})
    assert (r.status, r.body, r.get("Content-Encoding")) == (403, b"coded", "gzip")


def test_forward_clients_that_leave(sluice, origin, make_origin):
    judge = make_origin()
    judge.on("/verify", lambda c, r: time.sleep(0.2) or c.send(reply(200)) or True)
    s = asked(sluice, origin, judge)
    for _ in range(10):
        c = s.client()
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.02)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        c.close()
    assert s.get("/").status == 200 and len(origin.requests) == 1


# ---- several ----

def test_satisfy(sluice, origin, keys, htpasswd):
    both = f'AuthBasic "x" {htpasswd}\nAuthJWT {keys.path} cookie=t\n'
    s = sluice(BASE + both + f"<Location /any>\nSatisfy any\nProxyPass {origin}\n</Location>\nProxyPass {origin}\n"
               'RequestHeader set X-User %{user}\n')
    good, token = basic("bob", "password"), {"Cookie": f"t={keys.token()}"}
    assert [s.get("/", f).status for f in (good, token, {**good, **token}, {})] == [401, 401, 200, 401]
    assert [s.get("/any", f).status for f in (good, token, {**good, **token}, {})] == [200, 200, 200, 401]
    assert s.get("/any", token).seen("X-User") == "ann" and s.get("/any", good).seen("X-User") == "bob"
    r = s.get("/any", basic("bob", "x"))
    assert r.status == 401 and r.get("WWW-Authenticate") == "Bearer", "who denied last answers"


def test_satisfy_any_requires_of_who_passed(sluice, origin, keys, htpasswd):
    s = sluice(BASE + f'Satisfy any\nAuthBasic "x" {htpasswd}\nAuthJWT {keys.path}\n'
               f"AuthRequire \"%{{user}} == ann\"\nProxyPass {origin}\n")
    assert s.get("/", bearer(keys.token())).status == 200
    assert s.get("/", basic("bob", "password")).status == 403


@pytest.mark.skipif(not os.path.exists(f"{MODULES}/mod_access.so"), reason="built without mod_access")
def test_networks_and_passwords(sluice, origin, htpasswd):
    """Who comes from a good network, and who has a password: both, or one of them."""
    inside, outside = "Allow 127.0.0.0/8\nDeny all\n", "Allow 192.0.2.0/24\nDeny all\n"
    text = "".join(f"<Location /{how}-{name}>\nSatisfy {how}\n{nets}ProxyPass {origin}\n</Location>\n"
                   for how in ("all", "any") for name, nets in (("in", inside), ("out", outside)))
    s = sluice(BASE + f'LoadModule access\nAuthBasic "x" {htpasswd}\n' + text)
    good, wrong = basic("bob", "password"), basic("bob", "x")
    told = {p: [s.get(p, f).status for f in (good, wrong, {})] for p in ("/all-in", "/all-out", "/any-in", "/any-out")}
    assert told == {"/all-in": [200, 401, 401], "/all-out": [403, 403, 403],
                    "/any-in": [200, 200, 200], "/any-out": [200, 401, 401]}


# ---- sluice -E ----

def explain(tmp_path, text, *args):
    conf = tmp_path / "e.conf"
    conf.write_text(BASE + text)
    r = subprocess.run([PROGRAM, "-f", str(conf), "--module-dir", MODULES, "-E", *args],
                       capture_output=True, text=True, timeout=30, env={**os.environ, "SLUICE_HOOK_FATAL": "25"})
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


def test_explain(tmp_path, htpasswd, keys):
    text = (f'<Location /a>\nAuthBasic "Staff" {htpasswd}\nReturn 200 x\n</Location>\n'
            f"<Location /b>\nAuthJWT {keys.path}\nReturn 200 x\n</Location>\n"
            "<Location /c>\nAuthForward http://127.0.0.1:9/v\nReturn 200 x\n</Location>\n")
    out = explain(tmp_path, text, "GET http://x/a")
    assert "401" in out and 'AuthBasic "Staff"' in out and "no Authorization came" in out
    out = explain(tmp_path, text, "GET http://x/a", "-H", "Authorization: Basic Ym9iOng=")
    assert "200" in out and f"would verify the password of bob with {htpasswd}" in out
    assert "it has expired" in explain(tmp_path, text, "GET http://x/b", "-H",
                                       f"Authorization: Bearer {keys.token(exp=5)}")
    assert "the user is ann" in explain(tmp_path, text, "GET http://x/b", "-H", f"Authorization: Bearer {keys.token()}")
    assert "AuthForward http://127.0.0.1:9/v (" in explain(tmp_path, text, "GET http://x/c")
