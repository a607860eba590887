"""The texts of Member Center's pages, in English and in Chinese as written in Taiwan."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Texts:
    """The texts in one language."""

    title: str
    sandbox: str
    username: str
    password: str
    name: str
    submit: str
    failed: str
    accounts: str
    signed_out: str
    signed_out_sentence: str
    refused: str


TEXTS = {
    "en": Texts(
        title="Sign in to Member Center",
        sandbox="This is a sandbox. It stands in for Member Center; do not enter a real password.",
        username="Username",
        password="Password",
        name="Name",
        submit="Sign in",
        failed="No account has this username and password.",
        accounts="Accounts to try",
        signed_out="Signed out",
        signed_out_sentence="Your session at the sandbox's Member Center has ended.",
        refused="This request cannot be accepted",
    ),
    "zh-TW": Texts(
        title="登入會員中心",
        sandbox="這是沙盒，用來代替會員中心，請勿輸入真實的密碼。",
        username="使用者名稱",
        password="密碼",
        name="姓名",
        submit="登入",
        failed="沒有符合此使用者名稱與密碼的帳號。",
        accounts="可用的測試帳號",
        signed_out="已登出",
        signed_out_sentence="您在沙盒會員中心的登入狀態已結束。",
        refused="無法接受此請求",
    ),
}
