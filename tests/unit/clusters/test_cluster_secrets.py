from __future__ import annotations

import base64
import json
import os
import sys
import time
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.clusters.secrets import (
    MASK,
    Reference,
    SecretSource,
    fetch,
    fetch_token,
    file_warning,
    holds_secret,
    mask,
    parse_token,
    reveal,
    scrub,
    secret_values,
    warnings_of,
)
from kpipe.errors import UsageError

PATH = {"PATH": os.environ["PATH"]}
SECRET = "s3cr3t-VALUE"


def command(*argv, shell=False):
    return Reference("sasl.password", SecretSource.COMMAND, argv, shell)


def python(code):
    return command(sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("printed", "secret"),
    [("x", "x"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x\n"), (" x ", " x "), ("größe", "größe")],
)
def test_one_newline_at_the_end_is_not_the_secret(tmp_path, printed, secret):
    file = tmp_path / "secret"
    file.write_bytes(printed.encode())
    assert fetch(command("cat", str(file)), PATH, where="c") == secret
    assert fetch(Reference("sasl.password", SecretSource.FILE, (str(file),)), {}, where="c") == secret


def test_a_command_has_no_shell_and_no_stdin():
    assert fetch(command("echo", "$HOME;", "a b"), PATH, where="c") == "$HOME; a b"
    assert fetch(python("import sys; print(repr(sys.stdin.read()))"), PATH, where="c") == "''"


def test_a_string_command_has_a_shell():
    assert fetch(command("printf '%s' a | tr a b", shell=True), PATH, where="c") == "b"


def test_a_command_sees_the_environment_given():
    assert fetch(python("import os; print(os.environ['WHO'])"), PATH | {"WHO": "me"}, where="c") == "me"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (f"print('{SECRET}'); raise SystemExit(7)", "exit code 7"),
        (f"import os; print('{SECRET}', flush=True); os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("pass", "is empty"),
        (f"print('{SECRET}\\0')", "NUL byte"),
        (f"import sys; sys.stdout.buffer.write(b'{SECRET}\\xff')", "not UTF-8"),
        (f"print('{SECRET}' * 100000)", "more than 65536 bytes"),
    ],
)
def test_a_failing_command_says_why_but_not_what_it_printed(code, says, capfd):
    with pytest.raises(UsageError) as caught:
        fetch(python(code), PATH, where="cluster prod")
    assert says in str(caught.value)
    assert str(caught.value).startswith("cluster prod: ")
    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(capfd.readouterr())


def test_a_missing_command_is_named_without_its_arguments():
    with pytest.raises(UsageError, match="no-such-command-here: no such command") as caught:
        fetch(command("no-such-command-here", SECRET), PATH, where="c")
    assert SECRET not in str(caught.value)


def test_a_command_that_hangs_is_ended():
    started = time.monotonic()
    with pytest.raises(UsageError, match=r"took longer than 0\.3 s"):
        fetch(command("sleep", "30"), PATH, where="c", timeout_s=0.3)
    with pytest.raises(UsageError, match=r"took longer than 0\.3 s"):  # the shell is gone, its child keeps the pipe
        fetch(command("sleep 3 & echo x", shell=True), PATH, where="c", timeout_s=0.3)
    assert time.monotonic() - started < 2.5


def test_a_variable():
    reference = Reference("ssl.key.password", SecretSource.ENV, ("KEY_PASS",))
    assert fetch(reference, {"KEY_PASS": "x"}, where="c") == "x"
    with pytest.raises(UsageError, match=r"ssl\.key\.password: the variable KEY_PASS is not set"):
        fetch(reference, {}, where="c")


def test_a_file_that_is_missing_or_too_large(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        fetch(Reference("sasl.password", SecretSource.FILE, (str(tmp_path / "no"),)), {}, where="c")
    with pytest.raises(UsageError, match="more than 65536"):
        fetch(Reference("sasl.password", SecretSource.FILE, ("/dev/zero",)), {}, where="c")


def test_a_missing_keyring_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(UsageError, match=r"pip install 'kpipe-cli\[keyring\]'"):
        fetch(Reference("sasl.password", SecretSource.KEYRING, ("kafka/me",)), {}, where="c")


def test_a_keyring_is_asked_by_service_and_user(monkeypatch):
    ring = types.ModuleType("keyring")
    ring.get_password = {("kafka/prod", "me"): SECRET, ("kafka", "alice"): "alice's"}.__getitem__
    ring.get_password = lambda service, user, known=ring.get_password: known((service, user))
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert fetch(Reference("sasl.password", SecretSource.KEYRING, ("kafka/prod/me",)), {}, where="c") == SECRET
    assert (
        fetch(Reference("sasl.password", SecretSource.KEYRING, ("kafka",)), {}, where="c", username="alice")
        == "alice's"
    )
    with pytest.raises(UsageError, match="KeyError"):
        fetch(Reference("sasl.password", SecretSource.KEYRING, ("other/me",)), {}, where="c")
    ring.get_password = lambda _service, _user: None
    with pytest.raises(UsageError, match="has no other/me"):
        fetch(Reference("sasl.password", SecretSource.KEYRING, ("other/me",)), {}, where="c")


def test_reveal_fills_every_reference_and_leaves_the_token_out(tmp_path):
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o644)
    references = [
        Reference("sasl.password", SecretSource.FILE, (str(file),)),
        Reference("ssl.key.password", SecretSource.ENV, ("K",)),
        Reference("", SecretSource.COMMAND, ("false",)),
    ]
    assert reveal({"acks": "all"}, references, {"K": "key"}, where="c") == {
        "acks": "all",
        "sasl.password": SECRET,
        "ssl.key.password": "key",
    }
    warnings = warnings_of(references)
    assert len(warnings) == 1
    assert "mode 0644" in warnings[0]
    assert SECRET not in warnings[0]


def test_only_files_that_others_can_read_or_a_group_can_change_are_warned_about(tmp_path):
    """0440 is how Kubernetes and systemd give a secret to a user that is not root."""
    file = tmp_path / "secret"
    file.touch()
    for mode, warned in ((0o600, False), (0o440, False), (0o640, False), (0o644, True), (0o660, True), (0o602, True)):
        file.chmod(mode)
        assert bool(file_warning(file)) is warned
    assert file_warning(tmp_path / "missing") == []


def jwt(claims):
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{body}.sig"


@pytest.mark.parametrize(
    ("printed", "value", "end"),
    [
        ("opaque", "opaque", 1300),
        (jwt({"exp": 5000}), jwt({"exp": 5000}), 5000),
        (jwt({"sub": "x"}), jwt({"sub": "x"}), 1300),
        ('{"access_token": "t", "expires_in": 60}', "t", 1060),
        ('{"access_token": "t", "expires_in": "60"}', "t", 1060),
        ('{"access_token": "t"}', "t", 1300),
        (json.dumps({"access_token": jwt({"exp": 5000})}), jwt({"exp": 5000}), 5000),
    ],
)
def test_a_token_and_its_end(printed, value, end):
    token = parse_token(printed + "\n", 1000, where="c")
    assert (token.value, token.expires_s) == (value, end)
    assert value not in repr(token)


@pytest.mark.parametrize("printed", ["{", "{}", '{"access_token": ""}', '{"access_token": 1}', '{"error": "denied"}'])
def test_json_without_a_token_is_an_error(printed):
    with pytest.raises(UsageError, match="access_token"):
        parse_token(printed, 1000, where="c")


def test_fetch_token_runs_the_command():
    token = fetch_token(Reference("", SecretSource.COMMAND, ("echo", "abc")), PATH, 1000, where="c")
    assert token.value == "abc"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("sasl.password", True),
        ("ssl.key.password", True),
        ("ssl.keystore.password", True),
        ("ssl.key.pem", True),
        ("sasl.oauthbearer.client.secret", True),
        ("sasl.oauthbearer.client.credentials.client.secret", True),
        ("sasl.oauthbearer.assertion.private.key.pem", True),
        ("sasl.oauthbearer.assertion.private.key.passphrase", True),
        ("sasl.oauthbearer.config", True),
        ("sasl.jaas.config", True),
        ("SASL.Password", True),
        ("ssl.key.location", False),
        ("sasl.oauthbearer.token.endpoint.url", False),
        ("sasl.oauthbearer.client.credentials.client.id", False),
        ("sasl.oauthbearer.assertion.private.key.file", False),
        ("ssl.certificate.pem", False),
        ("sasl.username", False),
        ("bootstrap.servers", False),
    ],
)
def test_which_properties_hold_secrets(name, secret):
    assert holds_secret(name) is secret
    assert mask({name: "v"}) == {name: MASK if secret else "v"}


def test_mask_hides_credentials_inside_an_address():
    url = {"sasl.oauthbearer.token.endpoint.url": f"https://me:{SECRET}@idp.example.com/token?a=b"}
    assert mask(url) == {"sasl.oauthbearer.token.endpoint.url": f"https://{MASK}@idp.example.com/token?a=b"}


def test_a_reference_is_shown_without_arguments():
    assert str(command("vault", "-token", SECRET)) == "(from command vault)"
    assert str(command(f"vault -token {SECRET}", shell=True)) == "(from command vault)"
    assert str(Reference("sasl.password", SecretSource.ENV, ("PASS",))) == "(from env PASS)"


def test_scrub_takes_the_longest_first_and_forms_of_a_secret():
    assert scrub("abc abcdef a%2Fb", ["abc", "abcdef", "a/b"]) == f"{MASK} {MASK} {MASK}"
    assert scrub("nothing here", ["", "x" * 9]) == "nothing here"
    pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----"
    assert scrub("bad line MIIEvQIBADANBg, no -----BEGIN PRIVATE KEY-----", [pem]) == (
        f"bad line {MASK}, no -----BEGIN PRIVATE KEY-----"
    )


@given(st.text(alphabet="abc/%\n", min_size=1), st.text(alphabet="abc/% \n"), st.text(alphabet="abc/% \n"))
def test_a_scrubbed_message_has_no_secret(secret, before, after):
    assert secret not in scrub(before + secret + after, [secret])


def test_secret_values():
    assert secret_values({"sasl.password": SECRET, "sasl.username": "me", "ssl.key.password": ""}) == {SECRET}
