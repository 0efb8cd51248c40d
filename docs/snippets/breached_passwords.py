"""An app that takes no password known from a breach."""

from appkit import AppKit
from appkit.contrib import breached_passwords

kit = AppKit(plugins=[breached_passwords])
app = kit.app
