"""OpenSearch 2.19, from Maven's repository: the jars run a real server of one node in one process."""

from pathlib import Path

from . import packages, pings
from .ports import free_port, port_of
from .server import Server

POM = Path(__file__).with_name("opensearch-pom.xml")
MAIN = "org.codelibs.opensearch.runner.OpenSearchRunner"
# The program in the jars takes no other.
PORTS = range(8_300, 9_300)
SETTINGS = """\
network.host: 127.0.0.1
transport.port: {transport}
discovery.type: single-node
"""


class OpenSearch(Server):
    name = "opensearch"
    debian = ("default-jre-headless", "maven")

    def find(self) -> Path | None:
        if packages.program("java") and packages.program("mvn"):
            return packages.jars(POM)
        return None

    def prepare(self, program: Path) -> str:
        (self.directory / "config").mkdir()
        settings = SETTINGS.format(transport=free_port())
        (self.directory / "config" / "opensearch.yml").write_text(settings, encoding="utf-8")
        return f"opensearch://127.0.0.1:{free_port(PORTS)}"

    def launch(self, program: Path, url: str) -> None:
        command: list[str | Path] = [
            *(packages.program("java") or "java", "-Xms256m", "-Xmx512m", "-cp", program / "*", MAIN),
            *("-basePath", self.directory, "-confPath", self.directory / "config"),
            # It takes the first free port after this one.
            *("-numOfNode", "1", "-baseHttpPort", str(port_of(url) - 1)),
            *("-clusterName", "turnkeep"),
        ]
        self.processes.spawn(command)

    def answers(self, url: str) -> bool:
        return pings.opensearch(url)
