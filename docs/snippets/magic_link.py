"""An app with sign-in by magic link."""

from appkit import AppKit
from appkit.contrib import magic_link

kit = AppKit(plugins=[magic_link])
app = kit.app
