"""Configurations that name files of a real machine, with files of a folder in their places."""
import json
import re

HTPASSWD = "alice:$2y$05$KCmg7QOB3xmjYjhGEfIVvOsTVrPYyjkIAUfXg3KPnFPoV7ZP.KpYG\n"
JWKS = {"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}]}


def at_home(text, folder, beside):
    """`beside`: where relative names lead to; what is read from /etc/sluice is made in folder unless
    it is there."""
    for name, content in (("htpasswd", HTPASSWD), ("jwks.json", json.dumps(JWKS)), ("blocked.txt", "192.0.2.0/24\n")):
        if f"/etc/sluice/{name}" in text and not (folder / name).exists():
            (folder / name).write_text(content)
    text = text.replace("/etc/sluice/sorry.html", f"{beside}/sorry.html")
    text = text.replace("/var/log/sluice", str(folder)).replace("/etc/sluice", str(folder))
    text = re.sub(r"/var/cache/sluice size=\d+g", f"{folder}/cache size=64m", text)
    text = re.sub(r"^( *AccessFile \w+ )(\w+\.txt)$", rf"\1{beside}/\2", text, flags=re.M)
    return re.sub(r"^(ErrorPage .* )(\w+\.html)$", rf"\1file:{beside}/\2", text, flags=re.M)
