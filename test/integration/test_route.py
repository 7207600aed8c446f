"""mod_route: hosts, locations, rewriting, redirects."""
import pytest
from origin import reply


def names(make_origin, *wanted):
    """Backends that answer with their own name."""
    out = {}
    for name in wanted:
        o = make_origin()
        o.default = name
        out[name] = o
        o._echo = lambda r, n=name: reply(200, (n + " " + r.target).encode())
    return out


HOSTS = """LoadModule route
<VirtualHost a.test>
    ProxyPass {a}
</VirtualHost>
<VirtualHost *.test>
    ProxyPass {b}
</VirtualHost>
<VirtualHost *.deep.test c.example>
    ProxyPass {c}
</VirtualHost>
"""


@pytest.mark.parametrize("host, who", [
    ("a.test", "a"), ("A.TEST", "a"), ("a.test:8080", "a"), ("x.test", "b"), ("y.x.test", "b"),
    ("x.deep.test", "c"), ("c.example", "c"), ("deep.test", "b"), ("test", None),
    ("other.example", None)])
def test_one_host_wins(sluice, make_origin, host, who):
    s = sluice(HOSTS.format(**names(make_origin, "a", "b", "c")))
    r = s.get("/x", host=host)
    if who is None:
        assert r.status == 421
    else:
        assert r.body.decode() == who + " /x"


def test_the_default_host(sluice, make_origin):
    s = sluice("LoadModule route\n<VirtualHost a>\nReturn 200 a\n</VirtualHost>\n"
               "<VirtualHost *>\nReturn 200 any\n</VirtualHost>\n")
    assert s.get("/", host="a").body == b"a" and s.get("/", host="zzz").body == b"any"


LOCATIONS = """LoadModule route
<Location "/api">
    Return 200 api
    <Location "/api/inner">
        Return 200 inner
    </Location>
</Location>
<Location "/api/v1/">
    Return 200 v1
</Location>
<Location = "/api/exact">
    Return 200 exact
</Location>
<LocationMatch "^/pics/.*\\.(png|jpg)$">
    Return 200 pic
</LocationMatch>
<LocationMatch "\\.png$">
    Return 200 png
</LocationMatch>
<Location "/pics/">
    Return 200 pics
</Location>
Return 200 root
"""


@pytest.mark.parametrize("path, who", [
    ("/", "root"), ("/api", "api"), ("/api/", "api"), ("/api/x", "api"), ("/apix", "root"),
    ("/api/inner", "inner"), ("/api/inner/x", "inner"), ("/api/v1/x", "v1"), ("/api/v1", "api"),
    ("/api/exact", "exact"), ("/api/exact/x", "api"), ("/pics/a.png", "pic"), ("/a.png", "png"),
    ("/pics/a.gif", "pics"), ("/%61pi/x", "api"), ("/x/../api", "api"), ("//api//x", "api"),
    ("/./api/./x", "api"), ("/api%2Fv1%2Fx", "root"), ("/a%70%69", "api")])
def test_one_location_wins(sluice, path, who):
    assert sluice(LOCATIONS).get(path).body.decode() == who


def test_the_backend_sees_the_clients_bytes(sluice, origin):
    s = sluice(f"LoadModule route\n<Location /a>\nProxyPass {origin}\n</Location>\n")
    for path in ("/a/%2F/%41?x=%2f", "/b/../a/x", "//a//y", "/%61/z?"):
        assert s.get(path).json()["target"] == path


def test_a_path_in_the_target_replaces_the_prefix(sluice, origin):
    s = sluice(f"LoadModule route\n<Location /app/>\nProxyPass http://{origin}/base/\n</Location>\n"
               f"<Location /bare>\nProxyPass http://{origin}/other\n</Location>\n")
    assert s.get("/app/x?y").json()["target"] == "/base/x?y"
    assert s.get("/bare/x").json()["target"] == "/other/x"


def test_strip_and_rewrite(sluice, origin):
    s = sluice(f"""LoadModule route
<Location /v1/>
    Rewrite "^/v1/(.*)" "/$1"
    ProxyPass {origin}
</Location>
<Location /v2>
    StripPrefix /v2
    ProxyPass {origin}
</Location>
<Location /v3>
    Rewrite "^/v3/([a-z]+)/([0-9]+)$" "/item?kind=$1&id=$2"
    Rewrite "^/item" "/thing"
    ProxyPass {origin}
</Location>
""")
    assert s.get("/v1/users?a=1").json()["target"] == "/users?a=1"
    assert s.get("/v2/users").json()["target"] == "/users"
    assert s.get("/v2").json()["target"] == "/"
    assert s.get("/v3/car/7?x=y").json()["target"] == "/thing?kind=car&id=7&x=y"


def test_redirects(sluice):
    s = sluice("""LoadModule route
Redirect 301 /old-page /new-page
RedirectMatch 302 "^/blog/([0-9]+)$" "https://b.test/posts/$1"
Return 404 nothing
""")
    r = s.get("/old-page")
    assert r.status == 301 and r.get("Location") == "/new-page"
    r = s.get("/blog/17")
    assert r.status == 302 and r.get("Location") == "https://b.test/posts/17"
    assert s.get("/old-page/x").status == 404


def test_return_with_values(sluice):
    s = sluice('LoadModule route\nReturn 200 "%{method} %{host} %{path} %{arg:x} 100%%"\n')
    assert s.get("/p?x=1&y=2", host="h.test").body == b"GET h.test /p 1 100%"


def test_responses_mapped_back(sluice, origin):
    s = sluice(f"LoadModule route\n<Location /app/>\nProxyPass http://{origin}/base/\n</Location>\n")
    origin.on("/base/x", reply(302, b"", [("Location", f"http://{origin}/base/y?z=1")]))
    r = s.get("/app/x", host="front.test")
    assert r.get("Location") in ("http://front.test/app/y?z=1", "/app/y?z=1")


def test_locations_mapped_by_hand(sluice, origin):
    s = sluice(f"""LoadModule route
ProxyPass http://{origin}
<Location /off>
    ProxyRedirect off
</Location>
<Location /text>
    ProxyRedirect http://inner.test/ https://outer.test/
</Location>
<Location /both>
    ProxyRedirect off
    ProxyRedirect /a/ /b/
</Location>
""")
    for path, location, told in (
            ("/on", f"http://{origin}/y", "http://front.test/y"), ("/on", "http://else.test/y", "http://else.test/y"),
            ("/off", f"http://{origin}/y", f"http://{origin}/y"),
            ("/text", "http://inner.test/y?z", "https://outer.test/y?z"),
            ("/text", f"http://{origin}/y", "http://front.test/y"),
            ("/both", "/a/y", "/b/y"), ("/both", f"http://{origin}/y", f"http://{origin}/y")):
        origin.on(path, reply(302, b"", [("Location", location), ("Content-Location", location)]))
        r = s.get(path, host="front.test")
        assert (r.get("Location"), r.get("Content-Location")) == (told, told), (path, location)


def test_proxy_host(sluice, origin):
    s = sluice(f"LoadModule route\nProxyHost upstream\nProxyPass http://{origin}\n")
    assert s.get("/", host="front.test").seen("Host") == str(origin)


def test_nobody_answers(sluice):
    s = sluice("LoadModule route\n<Location /x>\nReturn 200 x\n</Location>\n")
    assert s.get("/y").status == 404


def test_two_hundred_prefixes_and_a_thousand_hosts(sluice):
    text = "LoadModule route\n<VirtualHost *>\n"
    text += "".join(f'<Location "/app{i}/">\nReturn 200 "p{i}"\n</Location>\n' for i in range(200))
    text += "</VirtualHost>\n"
    text += "".join(f'<VirtualHost h{i}.test>\nReturn 200 "h{i}"\n</VirtualHost>\n' for i in range(1000))
    s = sluice(text)
    c = s.client()
    for i in range(0, 200, 7):
        assert c.request("GET", f"/app{i}/x", host="none").body == f"p{i}".encode()
    for i in range(0, 1000, 37):
        assert c.request("GET", "/", host=f"h{i}.test").body == f"h{i}".encode()
    c.close()


@pytest.mark.parametrize("line, path, to", [
    ("Return 302 %{uri}", "//evil.test/x", "/evil.test/x"),
    ("Return 302 %{path}", "//evil.test/x", "/evil.test/x"),
    ("Return 302 //cdn.test%{uri}", "/x", "//cdn.test/x"),
    ("RedirectMatch 302 ^/a(.*) $1", "/a//evil.test/x", "/evil.test/x")])
def test_a_path_never_names_the_host_of_a_redirect(sluice, line, path, to):
    r = sluice("LoadModule route\n" + line + "\n").get(path)
    assert r.status == 302 and r.get("Location") == to


def test_captures_of_a_rewrite(sluice, origin):
    """$0 to $9, $<name>, $$ and values; what may not stand in a path is escaped."""
    s = sluice(f"""LoadModule route
Rewrite "^/one/(?<kind>[a-z]+)/(x)?(.*)$" "/$<kind>-$1-$2-$3"
Rewrite "^/all.*" "/saw$0"
Rewrite "^/cash" "/a$$1"
Rewrite "^/host/(.*)" "/%{{host}}/$1?m=%{{method}}"
Rewrite "^/arg" "/in-%{{arg:x}}"
ProxyPass {origin}
""")
    assert s.get("/one/car/7").json()["target"] == "/car-car--7"
    assert s.get("/one/car/x7?q").json()["target"] == "/car-car-x-7?q"
    assert s.get("/all/%41").json()["target"] == "/saw/all/%41"
    assert s.get("/cash").json()["target"] == "/a$1"
    assert s.get("/host/p?q=1", host="h.test").json()["target"] == "/h.test/p?m=GET&q=1"
    assert s.get("/arg?x=a?b$1").json()["target"] == "/in-a%3Fb$1?x=a?b$1"


def test_captures_of_a_redirect(sluice):
    s = sluice("""LoadModule route
RedirectMatch 302 "^/u/(?<who>[^/]+)/?(.*)$" "https://%{host}/$<who>?rest=$2"
Redirect 302 /here "https://%{host}/there#x"
Redirect 302 /cash /a$1
""")
    r = s.get("/u/an%20n/a", host="h.test")
    assert r.get("Location") == "https://h.test/an%20n?rest=a"
    assert s.get("/u/%252e%2fa/", host="h").get("Location") == "https://h/%252e%2fa?rest="
    assert s.get("/here?q", host="h.test").get("Location") == "https://h.test/there?q#x"
    assert s.get("/cash").get("Location") == "/a$1"


def test_captures_of_a_location(sluice, origin):
    """The nearest that has groups counts, further in before further out."""
    s = sluice(f"""LoadModule route
LoadModule headers
<LocationMatch "^/u/(?<who>[^/]+)/(\\w+)">
    Header set X-Who "$1 $<who> $2 $$0"
    RequestHeader set X-Kind "$2" if="%{{method}} == GET"
    ProxyPass http://{origin}/users/$1/$2.txt
    <LocationMatch "gone$">
        Return 410 "$1 is gone"
    </LocationMatch>
    <Location "/u/bob/moved">
        Redirect 302 /u/bob/moved /of/$1
    </Location>
    <If "%{{arg:to}} =~ '^(..)'">
        Return 200 "to $1"
    </If>
    <If "%{{arg:who}} != ''">
        Return 200 "who $1"
    </If>
</LocationMatch>
<Location /plain>
    Header set X-Who "$1"
    Return 200 ok
</Location>
""")
    r = s.get("/u/an%20n/a/b?q=1")
    assert r.json()["target"] == "/users/an%20n/a.txt?q=1"
    assert r.get("X-Who") == "an n an n a $0" and r.seen("X-Kind") == "a"
    assert s.get("/u/x%3Fy/a").json()["target"] == "/users/x%3Fy/a.txt"
    assert s.get("/u/x%252e%2f%20/a").json()["target"] == "/users/x%252e%2f%20/a.txt"
    assert s.get("/u/ann/gone").body == b"ann is gone"
    assert s.get("/u/bob/moved").get("Location") == "/of/bob"
    assert s.get("/u/ann/x?to=rome").body == b"to ro"
    assert s.get("/u/ann/x?who=1").body == b"who ann"
    assert s.get("/plain").get("X-Who") == "$1"


def test_a_condition_gives_proxypass_a_path(sluice, origin):
    s = sluice(f"""LoadModule route
<Location /f>
    <If "%{{arg:v}} =~ '^([0-9]+)$'">
        ProxyPass http://{origin}/version/$1
    </If>
    ProxyPass http://{origin}/none
</Location>
""")
    assert s.get("/f/x?v=12").json()["target"] == "/version/12?v=12"
    assert s.get("/f/x?v=b").json()["target"] == "/none/x?v=b"


@pytest.mark.parametrize("line, says, cure", [
    ('Rewrite "^/(a" "/$1"', 'Rewrite: expected a valid pattern, found "^/(a": missing closing '
     'parenthesis, at its character 5', "backslash"),
    ('Rewrite "^/a" "/$1"', "Rewrite: expected $0 to $0, the groups of the pattern, found $1", ""),
    ('Rewrite "^/(a)" "/$x"', "expected a digit or <NAME> behind '$', found \"/$x\"", '"$$" is a dollar'),
    ('Rewrite "^/(?<a>a)" "/$<b>"', "expected the name of a group of the pattern, found $<b>", ""),
    ('Rewrite "^/(a)" "/%{status}"', "%{status} is known when the response is", ""),
    ('RedirectMatch 302 "[" /', "RedirectMatch: expected a valid pattern", "backslash"),
    ('<LocationMatch "^/(a)$">\nReturn 200 $2\n</LocationMatch>',
     "Return: expected $0 to $1, the groups of the section's pattern, found $2", ""),
    ('<LocationMatch "^/a$">\nProxyPass http://127.0.0.1:1/x\n</LocationMatch>',
     "a path replaces the location's prefix, and a LocationMatch has none", "$1")])
def test_bad_patterns_and_groups(refused, line, says, cure):
    out = refused("LoadModule route\n" + line + "\n")
    assert says in out and cure in out and "test.conf:" in out
