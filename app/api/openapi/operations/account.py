"""Signing in and out, and the signed-in user."""

from app.api.openapi.operation import Operation, ResponseDescription, json_content, no_head
from app.api.openapi.operations.conversion import ONLY_NAVIGATION

_REDIRECT_HEADERS = ("Location", "Set-Cookie", "Cache-Control")

ACCOUNT = (
    Operation(
        "GET",
        "/auth/login",
        "signIn",
        {"en": "Go to Member Center to sign in", "zh-TW": "前往會員中心登入"},
        {302: ResponseDescription("A redirect to Member Center's login page.", {}, _REDIRECT_HEADERS)},
        description=f"Starts the authorization code flow with PKCE. {ONLY_NAVIGATION}",
        parameters=("next",),
        failures=("navigation_required", "idp_unavailable"),
    ),
    no_head(
        "/auth/login",
        "signInHead",
        {"en": "Not allowed, because it would start a sign-in", "zh-TW": "不允許，因為會開始登入"},
    ),
    Operation(
        "GET",
        "/auth/authorize",
        "completeSignIn",
        {"en": "Return from Member Center", "zh-TW": "從會員中心返回"},
        {
            302: ResponseDescription(
                "A redirect to the page where the sign-in began. Also sent if the callback is repeated while the user "
                "is signed in.",
                {},
                _REDIRECT_HEADERS,
            )
        },
        description=ONLY_NAVIGATION,
        parameters=("state", "code", "error", "iss"),
        failures=("sign_in_failed", "navigation_required", "idp_unavailable", "idp_misconfigured"),
        curl=None,
    ),
    no_head(
        "/auth/authorize",
        "completeSignInHead",
        {"en": "Not allowed, because it would use up a sign-in", "zh-TW": "不允許，因為會用掉一次登入"},
    ),
    Operation(
        "POST",
        "/auth/logout",
        "signOut",
        {"en": "Sign out", "zh-TW": "登出"},
        {
            200: ResponseDescription(
                "Signed out of visionA. Open `logout_url` to sign out of Member Center too.",
                json_content("SignedOut", {"logout_url": "https://mc.example/logout?client_id=visiona"}),
                ("Set-Cookie", "Cache-Control"),
            ),
            204: ResponseDescription("Signed out, or there was no session."),
        },
        failures=("model_store_unavailable",),
    ),
    Operation(
        "GET",
        "/api/me",
        "getAccount",
        {"en": "Get the signed-in user", "zh-TW": "取得登入者資料"},
        {
            200: ResponseDescription(
                "The user, and when the session ends.",
                json_content(
                    "Account",
                    {
                        "user_id": "alice",
                        "name": "Alice Chen",
                        "email": "alice@example.com",
                        "session_expires_at": "2026-11-25T20:30:00.000Z",
                    },
                ),
            )
        },
    ),
)
