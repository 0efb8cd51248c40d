"""An app that people sign in to with passkeys."""

from appkit import AppKit
from appkit.contrib import passkeys

kit = AppKit(plugins=[passkeys])
app = kit.app
