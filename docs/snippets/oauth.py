"""An app with OAuth sign-in."""

from appkit import AppKit
from appkit.contrib import oauth

kit = AppKit(plugins=[oauth])
app = kit.app
