"""An app that Prometheus measures."""

from appkit import AppKit
from appkit.contrib import metrics

kit = AppKit(plugins=[metrics])
app = kit.app
