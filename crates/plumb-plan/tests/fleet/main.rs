//! Fleets that are only simulated: the planner, the loop that carries plans out, what follows a failure and who watches are those of
//! the product; hosts, guests and the clock are not.

mod fault;
mod host;
mod scale;
mod script;
