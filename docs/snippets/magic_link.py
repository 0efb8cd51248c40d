"""An app that people sign in to by a link in a mail."""

from appkit import AppKit
from appkit.contrib import magic_link

kit = AppKit(plugins=[magic_link])
app = kit.app
