"""Parcels: enum columns, and JSON columns that hold a schema."""

from enum import Enum
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from appkit import AppKit, BaseTableModel, CRUDService, JSONOf, PageQuery, Schema, Where, crud_router


class State(Enum):
    PACKED = "packed"
    SENT = "sent"


class Address(Schema):
    street: str
    city: str


class Parcel(BaseTableModel):
    state: Mapped[State] = mapped_column(default=State.PACKED)
    size: Mapped[Literal["small", "large"]]
    address: Mapped[Address] = mapped_column(JSONOf(Address))
    stops: Mapped[list[Address]] = mapped_column(JSONOf(list[Address]), default=list)


class ParcelCreate(Schema):
    size: Literal["small", "large"]
    address: Address


class ParcelUpdate(Schema):
    state: State = State.PACKED
    stops: list[Address] = Field(default_factory=list)


class ParcelSchema(ParcelCreate):
    id: UUID
    state: State
    stops: list[Address]


class ParcelQuery(PageQuery):
    sortable: ClassVar = {"created": Parcel.created_at}

    state: Annotated[list[State] | None, Where(Parcel.state.in_)] = None


class ParcelService(CRUDService[Parcel, ParcelCreate, ParcelUpdate]):
    async def before_create(self, row: Parcel, data: ParcelCreate) -> None:
        row.stops = [Address(street="Harbour", city=data.address.city)]


parcels = crud_router(
    ParcelService, read=ParcelSchema, create=ParcelCreate, update=ParcelUpdate, query=ParcelQuery, prefix="/parcels"
)

kit = AppKit(routers=[parcels])
app, broker = kit.app, kit.broker
