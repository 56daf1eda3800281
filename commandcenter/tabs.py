"""The Command Center's tabs, on every page of the admin."""

#: Name of the URL to what its tab is called, in this order. The last is Django's own index.
TABS = (
    ("overview", "Overview"),
    ("center_providers", "Providers"),
    ("index", "Catalogue"),
)

#: Name of a page's URL to the tab that it stands under.
TAB_OF = {
    "overview": "overview",
    "center_scope": "overview",
    "center_selection": "overview",
    "center_providers": "center_providers",
}
