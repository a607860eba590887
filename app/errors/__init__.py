"""Every failure of the gateway: the classes (`failures`), and what each code means (`catalogue`)."""

from app.errors.catalogue import LANGUAGES as LANGUAGES
from app.errors.catalogue import Blame as Blame
from app.errors.catalogue import Entry as Entry
from app.errors.catalogue import Phrase as Phrase
from app.errors.catalogue import catalogue as catalogue
from app.errors.failures import *
