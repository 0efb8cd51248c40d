"""An app with admin pages for superusers."""

from sqlalchemy.orm import Mapped
from starlette_admin.fields import StringField, TextAreaField

from appkit import AppKit, BaseTableModel
from appkit.contrib import admin
from appkit.contrib.admin import RowView

kit = AppKit(plugins=[admin])


class RecipeView(RowView):
    fields = [StringField("title"), TextAreaField("text")]  # noqa: RUF012 - as starlette-admin has it
    searchable_fields = ["title"]  # noqa: RUF012 - as starlette-admin has it


class Recipe(BaseTableModel):
    admin_view = RecipeView

    title: Mapped[str]
    text: Mapped[str]


class Draft(BaseTableModel):
    admin_view = None

    text: Mapped[str]


app = kit.app
