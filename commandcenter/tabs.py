"""The Command Center's tabs, on every page of the admin."""

#: Name of the URL to what its tab is called, in this order. The last is Django's own index.
TABS = (
    ("overview", "Overview"),
    ("center_providers", "Providers"),
    ("center_flags", "Flags"),
    ("center_rollouts", "Rollouts"),
    ("center_whatif", "What-if"),
    ("center_savings", "Savings"),
    ("center_requests", "Requests"),
    ("center_conversations", "Conversations"),
    ("center_telemetry", "Telemetry"),
    ("center_audit", "Audit"),
    ("index", "Catalogue"),
)

#: Name of a page's URL to the tab that it stands under.
TAB_OF = {
    "overview": "overview",
    "center_scope": "overview",
    "center_selection": "overview",
    "center_providers": "center_providers",
    "center_flags": "center_flags",
    "center_rollouts": "center_rollouts",
    "center_whatif": "center_whatif",
    "center_savings": "center_savings",
    "center_requests": "center_requests",
    "center_request": "center_requests",
    "center_audit": "center_audit",
    "center_undo_actor": "center_audit",
    "center_telemetry": "center_telemetry",
    "center_conversations": "center_conversations",
}
