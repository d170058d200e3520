// Package acceptance tests the example programs together, as their users run them: separate
// processes of a user without rights, killed and started again. It has no code but its tests.
package acceptance
