"""What the client needs, and carries."""

import subprocess
import sys

from bertapi.transport import load_service_config

SERVER_PARTS = ("bertserve", "bertexport", "onnxruntime", "tokenizers", "pydantic", "torch", "transformers")


def test_client_loads_nothing_of_the_server():
    """A caller pays for gRPC and numpy alone, `bertcall` included."""
    program = f"import sys, bertapi.client, bertapi.command; print([n for n in {SERVER_PARTS} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_service_config_travels_with_the_package():
    """The published service config is package data, and names the service."""
    assert '"bertapi.v1.BertService"' in load_service_config()
