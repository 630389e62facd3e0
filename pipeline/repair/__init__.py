"""What operators mend with: tables filled anew, backups taken and brought back, charges that came twice taken back."""
