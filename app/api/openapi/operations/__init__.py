"""Every operation of the gateway, as data, by section in the order in which they are read."""

from app.api.openapi.operation import Section
from app.api.openapi.operations.account import ACCOUNT
from app.api.openapi.operations.conversion import CONVERSION
from app.api.openapi.operations.models import MODELS
from app.api.openapi.operations.service import CONSOLE, SERVICE

SECTIONS = (
    Section("conversion", {"en": "Conversion", "zh-TW": "轉換"}, CONVERSION),
    Section("models", {"en": "Model library", "zh-TW": "模型庫"}, MODELS),
    Section("account", {"en": "Account", "zh-TW": "帳號"}, ACCOUNT),
    Section("operations", {"en": "Operations", "zh-TW": "維運"}, SERVICE),
    Section("console", {"en": "Console", "zh-TW": "操作頁面"}, CONSOLE),
)
OPERATIONS = tuple(operation for section in SECTIONS for operation in section.operations)
