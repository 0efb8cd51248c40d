"""An app with passkeys."""

from appkit import AppKit
from appkit.contrib import passkeys

kit = AppKit(plugins=[passkeys])
app = kit.app
