"""A Homebrew formula for a tap of one's own: every dependency an sdist with its SHA-256, from the lock.

The client is built against Homebrew's librdkafka, which must be of the client's minor version or newer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from release.locked import Package

FORMULA = """\
# Written by `make dist`; change release/formula.py instead.
class Kpipe < Formula
  include Language::Python::Virtualenv

  desc "Pipe fitting between Unix and Apache Kafka"
  homepage "{homepage}"
  url "https://files.pythonhosted.org/packages/source/k/kpipe-cli/{sdist}"
  sha256 "{sha256}"
  license "Apache-2.0"

  depends_on "rust" => :build # orjson
  depends_on "librdkafka"
  depends_on "python@3.13"

{resources}
  def install
    virtualenv_install_with_resources
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/kpipe.bash" => "kpipe"
    zsh_completion.install "completions/_kpipe"
    fish_completion.install "completions/kpipe.fish"
  end

  test do
    script = "echo hi | kpipe produce --create t; kpipe consume -e t"
    assert_equal "hi\\n", shell_output("PATH=#{{bin}}:$PATH #{{bin}}/kpipe broker -- sh -c '#{{script}}'")
  end
end
"""
RESOURCE = """\
  resource "{name}" do
    url "{url}"
    sha256 "{sha256}"
  end
"""


def formula(found: Iterable[Package], sdist: str, sha256: str, homepage: str) -> str:
    """The formula's text; `sdist` is the file's name."""
    missing = [each.name for each in found if each.sdist is None]
    if missing:
        raise ValueError(f"no sdist in the lock: {', '.join(missing)}")
    resources = [
        RESOURCE.format(name=each.name, url=each.sdist[0], sha256=each.sdist[1]) for each in found if each.sdist
    ]
    return FORMULA.format(homepage=homepage, sdist=sdist, sha256=sha256, resources="\n".join(resources))
