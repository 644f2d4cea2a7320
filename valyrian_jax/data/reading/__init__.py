"""Reading: a text of any form, as documents."""
