"""The field that deflects the beam: its derivatives, integral, and the rotation between scan and detector."""
