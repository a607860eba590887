"""Read the model, or its skeleton, about which a request asks for advice."""

from flask import request

from app.api.forms import FormFile, read_form
from app.api.requests import optional_number
from app.errors import InvalidRequestError, PayloadTooLargeError
from app.services.advising import MODEL_ID, ModelReader

MAX_SKELETON_BYTES = 4 * 1024 * 1024
#: The largest model that is inspected without an upload.
MAX_MODEL_BYTES = 8 * 1024 * 1024
#: The limit of a form with such a model.
MAX_FORM_BYTES = MAX_MODEL_BYTES + 256 * 1024


def skeleton_file(reader: ModelReader) -> FormFile:
    """Return the file `skeleton` of a form, for `reader`."""
    return FormFile("skeleton", MAX_SKELETON_BYTES, reader.begin_model)


def read_model(reader: ModelReader) -> int | None:
    """Give `reader` the model or the skeleton of this request's form, and the field `model_id`.

    Return the size of the model in bytes; of a skeleton's model only if the field `model_size` tells it. Raises what
    reading a form raises, and InvalidRequestError unless the form has exactly one of both files, or if one of the
    fields is not a whole number.
    """
    if (request.content_length or 0) > MAX_FORM_BYTES:
        # The most likely mistake with curl, for which there is a remedy.
        raise PayloadTooLargeError(
            "at most 8 MiB; send the skeleton of a larger model", zh_tw="最多 8 MiB；較大的模型請傳送 skeleton"
        )
    skeleton = skeleton_file(reader)
    model = FormFile("model", MAX_MODEL_BYTES, reader.begin_model)
    fields: dict[str, str] = {}
    for name, value in read_form(skeleton, model, max_bytes=MAX_FORM_BYTES):
        fields.setdefault(name, value)
    if skeleton.is_present == model.is_present:
        raise InvalidRequestError(
            "the form needs a file skeleton or a file model, and not both",
            zh_tw="表單必須有 skeleton 或 model 其中一個檔案，且不能兩者都有",
        )
    optional_number(fields, MODEL_ID)
    reader.note(fields)
    size = optional_number(fields, "model_size")
    return model.size if model.is_present else size
