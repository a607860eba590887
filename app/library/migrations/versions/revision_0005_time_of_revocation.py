"""When a session was revoked, by the database's clock."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Existing rows get a time long ago; new rows the current time, also those of earlier versions."""
    long_ago = "1970-01-01 00:00:00.000000"
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    now = "clock_timestamp()" if is_postgresql else "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"
    op.add_column(
        "revoked_sessions",
        sa.Column(
            "revoked_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=f"{long_ago}+00" if is_postgresql else long_ago,
        ),
    )
    with op.batch_alter_table("revoked_sessions") as revoked_sessions:
        revoked_sessions.alter_column("revoked_at", server_default=sa.text(now))
    op.create_index("ix_revoked_sessions_revoked_at", "revoked_sessions", ["revoked_at"])
