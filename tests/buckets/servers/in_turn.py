"""moto's server, answering one request after the other."""

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

run_simple("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
