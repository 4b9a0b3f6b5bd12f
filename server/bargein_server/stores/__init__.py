"""Stores: conversations that outlive the process. Internal; `create_app(store=…)` opens one."""
