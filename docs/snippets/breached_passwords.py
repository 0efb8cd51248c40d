"""An app that refuses breached passwords."""

from appkit import AppKit
from appkit.contrib import breached_passwords

kit = AppKit(plugins=[breached_passwords])
app = kit.app
