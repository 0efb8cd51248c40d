"""An app with Prometheus metrics."""

from appkit import AppKit
from appkit.contrib import metrics

kit = AppKit(plugins=[metrics])
app = kit.app
