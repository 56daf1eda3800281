"""How the admin writes times: to the second and with the zone, since operators compare them with logs."""

DATETIME_FORMAT = "Y-m-d H:i:s e"
DATE_FORMAT = "Y-m-d"
