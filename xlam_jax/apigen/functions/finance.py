"""Interest, loans, prices and margins."""

from __future__ import annotations

import math

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import decimals, ints, lists, money, nums, pick


@api(
    "What will {principal} dollars grow to in {years} years at {rate}% compound interest?",
    "I put {principal} in a savings account at {rate}% for {years} years. What will be there with interest?",
    "Compound {principal} at {rate}% over {years} years, {periods} times a year.",
    "future balance: principal {principal}, rate {rate}%, {years} years, compounding {periods}x per year",
    name="compound_interest",
    alike="interest",
    give={
        "principal": money(500, 20000),
        "rate": nums(0.5, 9, 1),
        "years": ints(2, 35),
        "periods": pick(2, 4, 12),
    },
    edge={"periods": [0]},
)
def compound_interest(principal: float, rate: float, years: int, periods: int = 1) -> float:
    """Compute a balance with compound interest.

    Args:
      principal: Starting amount.
      rate: Annual interest rate in percent.
      years: Number of years.
      periods: Compounding periods per year.
    """
    return principal * (1 + rate / 100 / periods) ** (periods * years)


@api(
    "How much simple interest does {principal} earn at {rate}% over {years} years?",
    "My cousin owes me {principal} at {rate}% simple interest for {years} years. How much interest is due?",
    "simple interest: {principal}, {rate}%, {years} years",
    name="simpleInterest",
    alike="interest",
    give={"principal": money(500, 15000), "rate": nums(1, 12, 1), "years": ints(2, 15)},
)
def simple_interest(principal: float, rate: float, years: float) -> float:
    """Compute simple interest.

    Args:
      principal: Amount lent.
      rate: Annual interest rate in percent.
      years: Number of years.
    """
    return principal * rate / 100 * years


@api(
    "What's the monthly payment on a {amount} loan at {rate}% for {months} months?",
    "We borrow {amount} at {rate}% a year and pay back over {months} months. How much per month?",
    "loan installment: amount {amount}, rate {rate}%, months {months}",
    name="loan.monthlyPayment",
    give={
        "amount": money(2000, 300000),
        "rate": nums(1.5, 9.5, 1),
        "months": pick(12, 24, 36, 48, 60, 120, 180, 360),
    },
    edge={"rate": [0], "months": [0]},
)
def monthly_payment(amount: float, rate: float, months: int) -> float:
    """Compute the monthly payment of a loan.

    Args:
      amount: Amount borrowed.
      rate: Annual interest rate in percent.
      months: Number of payments.
    """
    r = rate / 1200
    return amount * r / (1 - (1 + r) ** -months)


@api(
    "The bill is {bill}. With a {percent}% tip, how much does each of {people} people pay?",
    "Split a {bill} dollar bill between {people} friends with a {percent}% tip.",
    "How much is {bill} plus a {percent}% tip?",
    "tip split: bill {bill}, tip {percent}%, people {people}",
    name="split_bill",
    give={"bill": money(20, 400), "percent": pick(10, 12, 15, 18, 20, 25), "people": ints(2, 9)},
    edge={"people": [0]},
)
def split_bill(bill: float, percent: float, people: int = 1) -> float:
    """Compute each person's share of a bill with tip.

    Args:
      bill: Amount of the bill.
      percent: Tip in percent.
      people: Number of people.
    """
    return round(bill * (1 + percent / 100) / people, 2)


@api(
    "What does a {price} jacket cost with {discount}% off?",
    "Price {price}, discount {discount}%. What do I pay?",
    "I have a {discount}% coupon for shoes at {price}. What's the final price?",
    name="discounted_price",
    alike="price",
    give={"price": money(15, 900), "discount": ints(5, 70, 5)},
)
def discounted_price(price: float, discount: float) -> float:
    """Compute a price after a discount.

    Args:
      price: Original price.
      discount: Discount in percent.
    """
    return round(price * (1 - discount / 100), 2)


@api(
    "Add {rate}% sales tax to {net}.",
    "What's the gross price for a net price of {net} with {rate}% VAT?",
    "{net} net, tax {rate}%: total?",
    name="addTax",
    alike="price",
    give={"net": money(10, 2000), "rate": pick(5, 7, 8.25, 10, 19, 20, 21)},
)
def add_tax(net: float, rate: float) -> float:
    """Add tax to a net price.

    Args:
      net: Net price.
      rate: Tax rate in percent.
    """
    return round(net * (1 + rate / 100), 2)


@api(
    "I invested {cost} and got back {proceeds}. What's my return on investment?",
    "ROI for cost {cost} and proceeds {proceeds}",
    "We spent {cost} on a campaign that brought in {proceeds}. Return on investment in percent?",
    name="finance.roi",
    alike="growth",
    give={"cost": money(200, 9000), "proceeds": money(200, 15000)},
    edge={"cost": [0]},
)
def return_on_investment(cost: float, proceeds: float) -> float:
    """Compute the return on an investment in percent.

    Args:
      cost: Amount invested.
      proceeds: Amount received back.
    """
    return (proceeds - cost) / cost * 100


@api(
    "How many units break even at fixed costs {fixed_costs}, price {price} and unit cost {unit_cost}?",
    "Stall rent is {fixed_costs}, a cake sells for {price} and costs me {unit_cost}. When do I break even?",
    "break-even: fixed {fixed_costs}, price {price}, variable cost {unit_cost}",
    name="break_even_units",
    joint=lambda r: (
        lambda cost: {"fixed_costs": money(200, 9000)(r), "unit_cost": cost, "price": cost + r.randint(2, 30)}
    )(r.randint(2, 40)),
    edge={"price": [0]},
)
def break_even_units(fixed_costs: float, price: float, unit_cost: float) -> int:
    """Compute how many units must be sold to break even.

    Args:
      fixed_costs: Costs that do not depend on sales.
      price: Selling price of a unit.
      unit_cost: Cost of a unit.
    """
    if price <= unit_cost:
        raise ValueError("the price must exceed the unit cost")
    return math.ceil(fixed_costs / (price - unit_cost))


@api(
    "What is the net present value of cash flows {cash_flows} at a discount rate of {rate}%?",
    "A project pays {cash_flows} in successive years. What's its NPV at {rate}%?",
    "npv, rate {rate}%, flows {cash_flows}",
    name="netPresentValue",
    give={"rate": nums(2, 14, 1), "cash_flows": lists(decimals(-900, 1500, 2), 3, 5)},
    edge={"rate": [-100]},
)
def net_present_value(rate: float, cash_flows: list[float]) -> float:
    """Compute the net present value of yearly cash flows.

    Args:
      rate: Discount rate in percent.
      cash_flows: Cash flow of each year, first one undiscounted.
    """
    return sum(flow / (1 + rate / 100) ** t for t, flow in enumerate(cash_flows))


@api(
    "What's the profit margin at revenue {revenue} and cost {cost}?",
    "We sold for {revenue} what cost us {cost}. Profit margin in percent?",
    "margin: revenue {revenue}, cost {cost}",
    name="profit_margin",
    give={"revenue": money(500, 9000), "cost": money(200, 6000)},
    edge={"revenue": [0]},
)
def profit_margin(revenue: float, cost: float) -> float:
    """Compute the profit margin in percent.

    Args:
      revenue: Revenue.
      cost: Total cost.
    """
    return (revenue - cost) / revenue * 100


@api(
    "Convert {amount} to the other currency at an exchange rate of {rate}.",
    "I exchange {amount} at a rate of {rate} and pay a {fee}% fee. How much do I get?",
    "exchange {amount}, rate {rate}, fee {fee} percent",
    "At the rate {rate}, how much foreign money is {amount}?",
    name="currency.exchange",
    give={"amount": money(20, 3000), "rate": decimals(0.6, 2.4, 4), "fee": nums(0.5, 4, 1)},
)
def exchange_currency(amount: float, rate: float, fee: float = 0.0) -> float:
    """Convert money at a given exchange rate.

    Args:
      amount: Amount to convert.
      rate: Exchange rate.
      fee: Fee in percent.
    """
    return round(amount * rate * (1 - fee / 100), 2)


@api(
    "Revenue grew from {start} to {end} in {years} years. What's the compound annual growth rate?",
    "CAGR from {start} to {end} over {years} years",
    "My portfolio went from {start} to {end} within {years} years. Annual growth rate?",
    name="cagr",
    alike="growth",
    give={"start": money(500, 9000), "end": money(600, 18000), "years": ints(2, 15)},
    edge={"start": [0], "years": [0]},
)
def annual_growth_rate(start: float, end: float, years: int) -> float:
    """Compute the compound annual growth rate in percent.

    Args:
      start: Value at the start.
      end: Value at the end.
      years: Number of years.
    """
    return ((end / start) ** (1 / years) - 1) * 100


@api(
    "A machine bought for {cost} is worth {salvage} after {years} years. Depreciation per year?",
    "straight-line depreciation: cost {cost}, salvage {salvage}, life {years} years",
    "What's the annual depreciation on a {cost} van kept {years} years, with nothing left at the end?",
    name="straightLineDepreciation",
    give={"cost": money(4000, 60000), "salvage": money(200, 3000), "years": ints(3, 15)},
    edge={"years": [0]},
)
def straight_line_depreciation(cost: float, years: int, salvage: float = 0.0) -> float:
    """Compute yearly straight-line depreciation.

    Args:
      cost: Purchase price.
      years: Useful life in years.
      salvage: Value at the end of life.
    """
    return (cost - salvage) / years


@api(
    "If I save {deposit} every month at {rate}% a year, what do I have after {years} years?",
    "Monthly savings of {deposit}, {rate}% annual interest, {years} years: final sum?",
    "savings plan: {deposit} per month, rate {rate}%, {years} years",
    name="savings_plan_value",
    give={"deposit": money(25, 900), "rate": nums(0.5, 7, 1), "years": ints(2, 40)},
    edge={"rate": [0]},
)
def savings_plan_value(deposit: float, rate: float, years: int) -> float:
    """Compute the final value of monthly savings.

    Args:
      deposit: Amount saved every month.
      rate: Annual interest rate in percent.
      years: Number of years.
    """
    r, n = rate / 1200, years * 12
    return deposit * ((1 + r) ** n - 1) / r


@api(
    "A salary of {hourly} an hour at {hours} hours a week makes how much per year?",
    "I earn {hourly} per hour and work {hours} hours weekly. What's my annual pay?",
    "yearly pay: {hourly}/h, {hours} h per week, {weeks} weeks a year",
    "Annual salary for {hourly} an hour, {hours} hours weekly and {weeks} paid weeks?",
    name="annualSalary",
    give={"hourly": nums(11, 95, 2), "hours": ints(8, 45), "weeks": ints(40, 51)},
)
def annual_salary(hourly: float, hours: float, weeks: int = 52) -> float:
    """Compute yearly pay from an hourly wage.

    Args:
      hourly: Pay per hour.
      hours: Hours per week.
      weeks: Paid weeks per year.
    """
    return hourly * hours * weeks
