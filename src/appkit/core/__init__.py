"""Settings, logging, monitoring and mail: what every layer leans on."""
