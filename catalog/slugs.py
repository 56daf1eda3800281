"""The one form of a name: tenants, personas, profiles and tasks, in URLs, events and files."""

from django.core.validators import RegexValidator

#: Lower-case letters, digits, dot, hyphen and underscore; starts with a letter or digit; 63 at most.
PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}\Z"
MAX_LENGTH = 63

validate_slug = RegexValidator(
    PATTERN,
    "Use lower-case letters, digits, '.', '-' and '_', starting with a letter or digit, at most 63.",
    "invalid_slug",
)
